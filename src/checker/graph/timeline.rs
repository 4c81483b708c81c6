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

/// The order of operations.
#[derive(Debug)]
pub(crate) struct Timeline<'h> {
    history: &'h History,
    node_of_row: Vec<u32>,
    row_of_node: Vec<u32>,
    /// Whether whatever stands before the row of an operation that happened has an earlier place.
    keeps_rows: bool,
}

impl<'h> Timeline<'h> {
    /// The timeline of a history's rows.
    pub(crate) fn of(history: &'h History) -> Self {
        assert!(history.len() < super::PLACES_MAX, "a history has fewer than 2^29 operations");
        let begin = |op: &Op<'_>| op.invoke_index().unwrap_or_else(|| op.index());
        let mut late: Vec<(u64, u32)> = Vec::new();
        let mut row_of_node = Vec::with_capacity(history.len());
        let mut keeps_rows = true;
        let mut latest_begin = None;
        for op in history.ops() {
            if op.kind() != EventType::Ok {
                late.push((begin(&op), op.row as u32));
                latest_begin = latest_begin.max(Some(begin(&op)));
            } else {
                keeps_rows &= latest_begin < Some(op.index());
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
        Self { history, node_of_row, row_of_node, keeps_rows }
    }

    /// Which place a row has.
    pub(crate) fn node(&self, row: u32) -> u32 {
        self.node_of_row[row as usize]
    }

    /// Which row stands at a place.
    pub(crate) fn row(&self, node: u32) -> u32 {
        self.row_of_node[node as usize]
    }

    /// Whether it is certain, without a look at either place, that a row has an earlier one than a
    /// row that happened.
    #[inline]
    pub(crate) fn is_surely_before(&self, row: u32, happened: u32) -> bool {
        self.keeps_rows && row < happened
    }

    fn op(&self, node: u32) -> Op<'h> {
        self.history.op(self.row(node) as usize)
    }

    /// When an operation was invoked; `NEVER` where the history has no invocation.
    pub(super) fn invoked(&self, node: u32) -> u64 {
        self.op(node).invoke_index().unwrap_or(NEVER)
    }

    /// When an operation that happened completed; `NEVER` for any other.
    pub(super) fn happened(&self, node: u32) -> u64 {
        let op = self.op(node);
        if op.kind() == EventType::Ok { op.index() } else { NEVER }
    }
}

/// Whether an operation can stand in a cycle of a queue history.
pub(crate) fn is_vertex(op: &Op<'_>) -> bool {
    op.is_client() && matches!(op.function(), Function::Send | Function::Poll | Function::Txn)
}
