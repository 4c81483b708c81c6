//! Turns Kafka's own message definitions into a table, and the table into readers and writers of
//! any body of any version.
//!
//! * [`table`]: the messages, their versions and headers, from `messages.txt`.
//! * [`layout()`]: one message at one version: which field follows which.
//! * [`Layout::walk`]: visits the bytes of a body, field by field, without building anything.
//! * [`guard()`]: refuses what a typed decoder must not see.
//! * [`Lookup`]: a few fields by name, resolved once.
//!
//! Never: allocates by a declared count, recurses by what the bytes say, knows what a field means.

mod guard;
mod layout;
mod lookup;
mod place;
mod program;
mod run;
pub mod table;
mod walk;

pub use guard::guard;
pub use layout::{Field, FieldId, Layout, layout};
pub use lookup::{Hit, Lookup, Lookups, UnknownField};
pub use place::{Path, Place};
pub use table::{
    Definition, Direction, FieldDefinition, FieldKind, Message, VersionRange, data_message,
    is_flexible, latest_stable, message, messages, request_header_version, response_header_version,
    versions,
};
pub use walk::{Flow, Ignore, Limits, Scalar, Visitor, Walked};
