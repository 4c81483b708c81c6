//! Turns Kafka's own message definitions into a table, and the table into readers and writers of
//! any body of any version.
//!
//! * [`table`]: the messages, their versions and headers, from `messages.txt`.
//! * [`layout()`]: one message at one version: which field follows which.
//! * [`Layout::walk`]: visits the bytes of a body, field by field, without building anything.
//! * [`guard()`]: refuses what a typed decoder must not see.
//! * [`Lookup`]: a few fields by name, resolved once.
//! * [`Fields`]: a body as a field tree; [`Layout::decode`] and [`Layout::encode`] between the two.
//! * [`Layout::write_json`]: a body as JSON, streamed.
//! * [`Layout::edit`], [`Lookup::rewrite`]: a body with some of its fields replaced.
//!
//! Never: allocates by a declared count, recurses by what the bytes say, knows what a field means.

mod decode;
mod edit;
mod encode;
mod guard;
mod json;
mod layout;
mod lookup;
mod place;
mod program;
mod run;
pub mod table;
mod text;
mod tree;
mod walk;

pub use decode::Decoded;
pub use edit::{Edit, EditError, Edited};
pub use encode::{EncodeError, EncodeErrorKind};
pub use guard::guard;
pub use json::{write_json_bytes, write_json_text};
pub use layout::{Field, FieldId, Layout, layout};
pub use lookup::{Hit, Lookup, Lookups, UnknownField};
pub use place::{Path, Place};
pub use table::{
    Definition, Direction, FieldDefinition, FieldKind, Message, VersionRange, data_message,
    is_flexible, latest_stable, message, messages, request_header_version, response_header_version,
    sources, versions,
};
pub use text::write_uuid;
pub use tree::{Fields, Value};
pub use walk::{Flow, Ignore, Limits, Scalar, Visitor, Walked};
