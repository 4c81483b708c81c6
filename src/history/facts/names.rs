//! Names that occur again and again, kept once.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Names that are kept; beyond that each is a copy of its own.
const NAMES_MAX: usize = 65_536;

/// Makes one text of equal bytes.
#[derive(Debug, Default)]
pub struct Names {
    known: FxHashMap<Box<[u8]>, Arc<str>>,
}

impl Names {
    /// The text of these bytes; what is not UTF-8 is replaced.
    pub fn of(&mut self, bytes: &[u8]) -> Arc<str> {
        if let Some(known) = self.known.get(bytes) {
            return Arc::clone(known);
        }
        let text: Arc<str> = String::from_utf8_lossy(bytes).into();
        if self.known.len() < NAMES_MAX {
            self.known.insert(bytes.into(), Arc::clone(&text));
        }
        text
    }
}
