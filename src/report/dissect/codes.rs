//! The error codes of a response: every field whose name ends in `error_code`, wherever it stands.
//!
//! Never: says what a code means.

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, Field, FieldId, FieldKind, Flow, Layout, Lookup};
use rustc_hash::FxHashMap;

/// Versions of APIs that are remembered; the protocol has about four hundred.
const LOOKUPS_MAX: usize = 4_096;

/// Reads error codes; what to look for is worked out once a version.
#[derive(Debug, Default)]
pub struct Codes {
    lookups: FxHashMap<(ApiKey, i16), Option<Lookup>>,
}

impl Codes {
    /// Hands out every error code that is not 0, in the order of the bytes.
    pub fn each(&mut self, api_key: ApiKey, version: i16, body: &[u8], mut found: impl FnMut(i16)) {
        let version = version_answered(api_key, version, body);
        if self.lookups.len() > LOOKUPS_MAX {
            self.lookups.clear();
        }
        let lookup = self.lookups.entry((api_key, version)).or_insert_with(|| {
            let layout = schema::layout(api_key, Direction::Response, version)?;
            let paths = paths(layout);
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            layout.lookup(&paths).ok().filter(|_| !paths.is_empty())
        });
        let Some(lookup) = lookup else { return };
        lookup.read(body, |hit| {
            // An error code has 16 bits.
            if let Some(code @ (..=-1 | 1..)) = hit.value.as_int() {
                found(code as i16);
            }
            Flow::Continue(())
        });
    }
}

/// The version a response is of: an ApiVersions request that is too new for the broker is answered
/// with error 35 in the form of version 0 (KIP-511).
#[must_use]
pub fn version_answered(api_key: ApiKey, version: i16, body: &[u8]) -> i16 {
    const UNSUPPORTED_VERSION: [u8; 2] = [0, 35];
    if api_key != ApiKey::API_VERSIONS || !body.starts_with(&UNSUPPORTED_VERSION) {
        return version;
    }
    let decodes = |version| {
        schema::layout(api_key, Direction::Response, version)
            .is_some_and(|layout| layout.guard(body, schema::Limits::NONE).is_ok())
    };
    if !decodes(version) && decodes(0) { 0 } else { version }
}

fn paths(layout: &Layout) -> Vec<String> {
    let mut paths = Vec::new();
    collect(layout, layout.fields(), &mut paths);
    paths
}

fn collect<'l>(
    layout: &'l Layout,
    fields: impl Iterator<Item = (FieldId, &'l Field)>,
    paths: &mut Vec<String>,
) {
    for (id, field) in fields {
        if field.kind() == FieldKind::Int16 && field.name().ends_with("error_code") {
            paths.push(layout.path(id));
        }
        let children: Vec<_> = layout.children(id).collect();
        collect(layout, children.into_iter(), paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(api_key: ApiKey, version: i16, body: &[u8], expected: &[i16]) {
        let mut found = Vec::new();
        Codes::default().each(api_key, version, body, |code| found.push(code));
        assert_eq!(found, expected, "{api_key} v{version}");
    }

    #[test]
    fn every_error_code_of_a_response_is_found() {
        check(ApiKey::HEARTBEAT, 1, &[0, 0, 0, 0, 0, 27], &[27]);
        check(ApiKey::HEARTBEAT, 1, &[0, 0, 0, 0, 0, 0], &[]);
        let groups = [0, 0, 0, 0, 0, 0, 0, 2, 0, 1, b'a', 0xff, 0xff, 0, 1, b'b', 0, 69];
        check(ApiKey::DELETE_GROUPS, 0, &groups, &[-1, 69]);
        check(ApiKey(999), 0, &[0, 1], &[]);
    }

    #[test]
    fn a_refused_api_versions_is_read_in_its_oldest_form() {
        let refused = [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
        check(ApiKey::API_VERSIONS, 77, &refused, &[35]);
        check(ApiKey::API_VERSIONS, 4, &refused, &[35]);
        assert_eq!(version_answered(ApiKey::API_VERSIONS, 4, &refused), 0);
    }
}
