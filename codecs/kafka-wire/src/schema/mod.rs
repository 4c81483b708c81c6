//! Placeholder head, replaced by its owner.
use crate::api::ApiKey;
/// Request header version of an API and version, absent where the table does not know it.
pub fn request_header_version(_: ApiKey, _: i16) -> Option<i16> {
    None
}
/// Response header version.
pub fn response_header_version(_: ApiKey, _: i16) -> Option<i16> {
    None
}
