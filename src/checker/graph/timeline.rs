//! Puts the operations of a history in the order in which they most likely took effect.
//!
//! Any order would do for correctness, if only an operation that completed before another was
//! invoked comes before it. This one makes few dependencies lead backward: an operation that
//! happened stands where it completed, any other where it was invoked (a timeout may come long
//! after its write took effect).

use crate::history::columns::Op;
use crate::history::{EventType, Function, History};

/// No event.
pub(super) const NEVER: u64 = u64::MAX;

/// The order of operations, and when each began and ended.
#[derive(Debug)]
pub(crate) struct Timeline {
    node_of_row: Vec<u32>,
    row_of_node: Vec<u32>,
    /// When each was invoked; `NEVER` where the history has no invocation.
    invoked: Vec<u64>,
    /// When each that happened completed; `NEVER` for the others.
    happened: Vec<u64>,
}

impl Timeline {
    /// The timeline of a history's rows.
    pub(crate) fn of(history: &History) -> Self {
        assert!(history.len() < super::PLACES_MAX, "a history has fewer than 2^29 operations");
        let begin = |op: &Op<'_>| op.invoke_index().unwrap_or_else(|| op.index());
        let mut late: Vec<(u64, u32)> = Vec::new();
        let mut row_of_node = Vec::with_capacity(history.len());
        for op in history.ops() {
            if op.kind() != EventType::Ok {
                late.push((begin(&op), op.row as u32));
            }
        }
        late.sort_unstable();
        let mut late = late.into_iter().peekable();
        for op in history.ops().filter(|op| op.kind() == EventType::Ok) {
            while let Some((_, row)) = late.next_if(|&(begin, _)| begin < op.index()) {
                row_of_node.push(row);
            }
            row_of_node.push(op.row as u32);
        }
        row_of_node.extend(late.map(|(_, row)| row));

        let mut node_of_row = vec![0; row_of_node.len()];
        for (node, &row) in (0u32..).zip(&row_of_node) {
            node_of_row[row as usize] = node;
        }
        let ops = || row_of_node.iter().map(|&row| history.op(row as usize));
        let invoked = ops().map(|op| op.invoke_index().unwrap_or(NEVER)).collect();
        let happened =
            ops().map(|op| if op.kind() == EventType::Ok { op.index() } else { NEVER }).collect();
        Self { node_of_row, row_of_node, invoked, happened }
    }

    /// Which place a row has.
    pub(crate) fn node(&self, row: u32) -> u32 {
        self.node_of_row[row as usize]
    }

    /// Which row stands at a place.
    pub(crate) fn row(&self, node: u32) -> u32 {
        self.row_of_node[node as usize]
    }

    pub(super) fn invoked(&self, node: u32) -> u64 {
        self.invoked[node as usize]
    }

    pub(super) fn happened(&self, node: u32) -> u64 {
        self.happened[node as usize]
    }
}

/// Whether an operation can stand in a cycle of a queue history.
pub(crate) fn is_vertex(op: &Op<'_>) -> bool {
    op.is_client() && matches!(op.function(), Function::Send | Function::Poll | Function::Txn)
}
