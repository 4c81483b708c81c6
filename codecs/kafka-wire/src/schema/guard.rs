//! Turns a body into leave to hand it to a typed decoder, or the reason why not.
//!
//! The `kafka-protocol` crate reserves memory by declared counts and aborts the process when that
//! fails; it keeps a known tagged field's value wherever its size says it ends; a wholly valid body
//! of 10 MB can become 360 MB of structs. The guard walks the body first, strictly: every count
//! fits into the bytes that follow, every tagged field takes exactly its size, tags rise, text is
//! UTF-8, nothing is left over, and the structs stay within a limit.
//!
//! Never: builds anything.
//! Not checked: what record batches hold; [`crate::batch`] decodes those.

use super::layout::Layout;
use super::run::run;
use super::walk::{Ignore, Limits};
use super::{Direction, layout};
use crate::api::ApiKey;
use crate::error::{DecodeError, DecodeErrorKind};

/// Whether a body may be handed to a typed decoder, within the default limits.
///
/// # Errors
/// The first thing wrong with it.
///
/// ```
/// use kafka_wire::{ApiKey, schema::{self, Direction}};
/// // An array of two thousand million topics, in four bytes.
/// let body = [0x7f, 0xff, 0xff, 0xff];
/// let refused = schema::guard(ApiKey::METADATA, 0, Direction::Request, &body).unwrap_err();
/// assert_eq!(refused.to_string(), "count 2147483647 cannot fit in the bytes left at byte 0 (topics)");
/// ```
pub fn guard(
    api_key: ApiKey,
    version: i16,
    direction: Direction,
    body: &[u8],
) -> Result<(), DecodeError> {
    let unknown = || DecodeError {
        byte_offset: 0,
        path: String::new(),
        kind: DecodeErrorKind::UnknownMessage,
    };
    layout(api_key, direction, version).ok_or_else(unknown)?.guard(body, Limits::default())
}

impl Layout {
    /// Whether a body may be handed to a typed decoder, within the limits.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn guard(&self, body: &[u8], limits: Limits) -> Result<(), DecodeError> {
        run::<_, true>(self, &self.strict, body, limits, &mut Ignore).complete()
    }
}
