//! Numbers names densely from 0, in the order of their first appearance.

use rustc_hash::FxHashMap;

/// What a key or a process is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Integer(i64),
    Text(Box<str>),
}

/// Integers below this are looked up in a table instead of a map.
const SMALL: usize = 1 << 16;
const NONE: u32 = u32::MAX;

/// Names and their numbers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    small: Vec<u32>,
    integers: FxHashMap<i64, u32>,
    texts: FxHashMap<Box<str>, u32>,
    names: Vec<Name>,
}

impl Names {
    pub(crate) fn all(&self) -> &[Name] {
        &self.names
    }

    #[inline]
    pub(crate) fn integer(&mut self, integer: i64) -> u32 {
        match self.small.get(integer as usize) {
            Some(&id) if id != NONE => id,
            _ => self.new_integer(integer),
        }
    }

    fn new_integer(&mut self, integer: i64) -> u32 {
        let small = usize::try_from(integer).ok().filter(|small| *small < SMALL);
        if small.is_none()
            && let Some(&id) = self.integers.get(&integer)
        {
            return id;
        }
        let id = self.push(Name::Integer(integer));
        match small {
            Some(small) => {
                if self.small.len() <= small {
                    self.small.resize((small + 1).next_power_of_two(), NONE);
                }
                self.small[small] = id;
            }
            None => {
                self.integers.insert(integer, id);
            }
        }
        id
    }

    pub(crate) fn text(&mut self, text: &str) -> u32 {
        if let Some(&id) = self.texts.get(text) {
            return id;
        }
        let id = self.push(Name::Text(text.into()));
        self.texts.insert(text.into(), id);
        id
    }

    /// The number of a name, if it has one.
    pub(crate) fn find(&self, name: &Name) -> Option<u32> {
        match name {
            Name::Text(text) => self.texts.get(text).copied(),
            Name::Integer(integer) => self
                .small
                .get(usize::try_from(*integer).unwrap_or(usize::MAX))
                .filter(|id| **id != NONE)
                .or_else(|| self.integers.get(integer))
                .copied(),
        }
    }

    /// The number of a name of another table.
    pub(crate) fn of(&mut self, name: &Name) -> u32 {
        match name {
            Name::Integer(integer) => self.integer(*integer),
            Name::Text(text) => self.text(text),
        }
    }

    /// Forgets all names, at a cost that grows with how many there were, not with how large.
    pub(crate) fn clear(&mut self) {
        for name in &self.names {
            if let Name::Integer(integer) = name
                && let Some(id) = self.small.get_mut(*integer as usize)
            {
                *id = NONE;
            }
        }
        self.integers.clear();
        self.texts.clear();
        self.names.clear();
    }

    fn push(&mut self, name: Name) -> u32 {
        let id = u32::try_from(self.names.len()).expect("fewer than 2^32 names");
        self.names.push(name);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleared_names_are_numbered_from_0_again() {
        let mut names = Names::default();
        let integers = [7, 0, -1, 65_535, 65_536, i64::MAX, i64::MIN];
        for _ in 0..2 {
            for (id, integer) in (0u32..).zip(integers) {
                assert_eq!(names.find(&Name::Integer(integer)), None, "{integer}");
                assert_eq!(names.integer(integer), id, "{integer}");
                assert_eq!(names.integer(integer), id, "{integer}");
            }
            assert_eq!(names.text("a"), integers.len() as u32);
            names.clear();
        }
        assert!(names.all().is_empty());
    }
}
