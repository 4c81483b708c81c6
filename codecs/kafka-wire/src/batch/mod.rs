//! Placeholder head, replaced by its owner.
