//! Jepsen's history notation: a pull scanner over bytes, and a writer.
//!
//! EDN is what Clojure prints. [`Scanner`] yields one [`Token`] after the other and builds
//! nothing; [`Writer`] spaces and separates as Clojure's `pr` does. Histories are mostly small
//! integers in vectors, so integers are read eight digits at once ([`fn@integer`]) and `[40 1]` has a
//! way of its own ([`Scanner::integer_pair`]).
//!
//! Never: reads a file; builds a tree; panics, whatever the bytes.

mod error;
mod integer;
mod scanner;
mod token;
mod writer;

pub use error::{Error, ErrorKind};
pub use integer::{integer, write_integer};
pub use scanner::{DEPTH_MAX, Scanner};
pub use token::{Number, Shape, Text, Token};
pub use writer::{Writer, write_string};
