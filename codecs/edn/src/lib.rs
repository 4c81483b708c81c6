//! Jepsen's history notation: a pull scanner over bytes, and a writer.
