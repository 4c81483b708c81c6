//! One partition, as far as producers and consumers can see it.

/// A partition's records, with the gaps that transaction markers leave.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: Vec<Entry>,
    log_end_offset: i64,
    /// Open transactions with records here, each with its first offset.
    open: Vec<(u64, i64)>,
    /// Sends that are planned but have not come yet.
    pub(super) awaited: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: i64,
    value: i64,
    fate: Fate,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Undecided,
    Committed,
    Aborted,
}

impl Log {
    /// Appends a transaction's record; gives its place among the entries and its offset.
    pub(super) fn append(&mut self, transaction: u64, value: i64) -> (usize, i64) {
        let offset = self.log_end_offset;
        if !self.open.iter().any(|(open, _)| *open == transaction) {
            self.open.push((transaction, offset));
        }
        self.push(value, Fate::Undecided);
        (self.entries.len() - 1, offset)
    }

    /// Appends a record outside of all transactions.
    pub(super) fn push(&mut self, value: i64, fate: Fate) {
        self.entries.push(Entry { offset: self.log_end_offset, value, fate });
        self.log_end_offset += 1;
    }

    /// Puts another value where the last record stands, if that has been committed.
    pub(super) fn overwrite_last(&mut self, value: i64) -> Option<i64> {
        let last = self.entries.last_mut().filter(|last| last.fate == Fate::Committed)?;
        last.value = value;
        Some(last.offset)
    }

    /// Decides one record.
    pub(super) fn decide(&mut self, entry: usize, fate: Fate) {
        self.entries[entry].fate = fate;
    }

    /// Writes the marker that ends a transaction, if it had records here.
    pub(super) fn mark(&mut self, transaction: u64) {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == transaction) {
            self.open.swap_remove(at);
            self.log_end_offset += 1;
        }
    }

    /// The first offset that nobody may read yet.
    pub(super) fn last_stable_offset(&self) -> i64 {
        self.open.iter().map(|(_, first)| *first).min().unwrap_or(self.log_end_offset)
    }

    /// Committed records from an offset on, below the last stable offset.
    pub(super) fn read(&self, from: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let start = self.entries.partition_point(|entry| entry.offset < from);
        let end = self.last_stable_offset();
        self.entries[start..]
            .iter()
            .take_while(move |entry| entry.offset < end)
            .filter(|entry| entry.fate == Fate::Committed)
            .map(|entry| (entry.offset, entry.value))
    }

    /// Committed records before an offset, the nearest first.
    pub(super) fn read_back(&self, from: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
        let start = self.entries.partition_point(|entry| entry.offset < from);
        let committed = self.entries[..start].iter().rev();
        committed.filter(|e| e.fate == Fate::Committed).map(|e| (e.offset, e.value))
    }

    /// An entry's offset and value.
    pub(super) fn entry(&self, entry: usize) -> (i64, i64) {
        (self.entries[entry].offset, self.entries[entry].value)
    }

    /// Whether a consumer at that position has read all there will ever be, once no one is going
    /// to send here any more.
    pub(super) fn is_read_up(&self, position: i64) -> bool {
        self.awaited == 0 && self.open.is_empty() && self.read(position).next().is_none()
    }
}
