//! Turns Kafka's own message definitions into a table, and the table into readers and writers of
//! any body of any version.
//!
//! * [`table`]: the messages, their versions and headers, from `messages.txt`.
//!
//! Never: allocates by a declared count, recurses by what the bytes say, knows what a field means.

pub mod table;

pub use table::{
    Definition, Direction, FieldDefinition, FieldKind, Message, VersionRange, data_message,
    is_flexible, latest_stable, message, messages, request_header_version, response_header_version,
    versions,
};
