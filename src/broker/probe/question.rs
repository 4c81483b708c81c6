//! One question each: what is asked, and what its answer says.

use std::collections::BTreeMap;
use std::io;

use bytes::BufMut;
use kafka_wire::ids::NodeId;
use kafka_wire::{ApiKey, DecodeError, ErrorCode};

use super::Connection;
use super::body::Body;
use crate::broker::Node;

/// Why a cluster is not ready; asked again, it may be.
#[derive(Debug, thiserror::Error)]
pub enum NotYet {
    /// Nobody listens.
    #[error("{node} does not accept a connection: {source}")]
    Unreachable {
        /// The address.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// The connection ended before the answer.
    #[error("the connection broke before the answer to {api_key}: {source}")]
    Broken {
        /// The question.
        api_key: ApiKey,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{node} accepts a connection and does not answer")]
    Silent {
        /// The address.
        node: String,
    },
    /// A frame of a length no answer has.
    #[error("the answer to {api_key} claims a length of {length} bytes")]
    BadLength {
        /// The question.
        api_key: ApiKey,
        /// The length.
        length: i32,
    },
    /// An answer to another question.
    #[error("the answer to {api_key} carries another correlation id")]
    Unpaired {
        /// The question.
        api_key: ApiKey,
    },
    /// An answer that cannot be read.
    #[error("the answer to {api_key} cannot be read: {error}")]
    Rubbish {
        /// The question.
        api_key: ApiKey,
        /// Where and why.
        error: DecodeError,
    },
    /// The version asked is not served.
    #[error("{api_key} version {api_version} is not served (versions {min} to {max} are)")]
    Unserved {
        /// The question.
        api_key: ApiKey,
        /// The version a probe speaks.
        api_version: i16,
        /// The lowest served; greater than `max` where the API is not served at all.
        min: i16,
        /// The highest served.
        max: i16,
    },
    /// An error code.
    #[error("{api_key} answers {code}")]
    Code {
        /// The question.
        api_key: ApiKey,
        /// The answer.
        code: ErrorCode,
    },
    /// Metadata does not list every node.
    #[error("Metadata lists {listed} of {expected} nodes")]
    Missing {
        /// How many it lists.
        listed: usize,
        /// How many there should be.
        expected: usize,
    },
}

/// What a broker serves, and the features its cluster has finalized.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiVersions {
    /// Lowest and highest version of each API.
    pub ranges: BTreeMap<ApiKey, (i16, i16)>,
    /// Finalized level of each feature (KIP-584).
    pub finalized_features: BTreeMap<String, i16>,
}

impl ApiVersions {
    /// Whether that version is served, as an error where it is not.
    fn require(&self, api_key: ApiKey, api_version: i16) -> Result<(), NotYet> {
        let (min, max) = self.ranges.get(&api_key).copied().unwrap_or((0, -1));
        if (min..=max).contains(&api_version) {
            return Ok(());
        }
        Err(NotYet::Unserved { api_key, api_version, min, max })
    }
}

fn code_of(api_key: ApiKey, code: i16) -> Result<(), NotYet> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(NotYet::Code { api_key, code }),
    }
}

/// Asks which versions and features a broker has: version 4 (KAFKA-17011 let features begin at
/// level 0), then 3, and 0 of one that knows neither.
///
/// # Errors
/// Where no version of ApiVersions is answered.
pub async fn api_versions(node: &Node) -> Result<ApiVersions, NotYet> {
    for version in [4, 3] {
        let mut connection = Connection::open(node).await?;
        match ask_api_versions(&mut connection, version).await {
            // KIP-511: the refusal of a version is an answer of version 0.
            Err(NotYet::Code { code: ErrorCode::UNSUPPORTED_VERSION, .. }) => {}
            // Old and strange brokers hang up instead.
            Err(NotYet::Broken { .. }) => {}
            answer => return answer,
        }
    }
    ask_api_versions(&mut Connection::open(node).await?, 0).await
}

async fn ask_api_versions(
    connection: &mut Connection,
    version: i16,
) -> Result<ApiVersions, NotYet> {
    let mut request = Vec::new();
    if version >= 3 {
        put_compact(&mut request, "fencepost"); // client_software_name
        put_compact(&mut request, env!("CARGO_PKG_VERSION")); // client_software_version
        request.put_u8(0);
    }
    let (frame, start) = connection.ask(ApiKey::API_VERSIONS, version, &request).await?;
    let mut body = Body::new("ApiVersionsResponse", &frame, start);
    let code = body.int16("error_code").map_err(|e| rubbish(ApiKey::API_VERSIONS, e))?;
    code_of(ApiKey::API_VERSIONS, code)?;
    read_api_versions(body, version).map_err(|e| rubbish(ApiKey::API_VERSIONS, e))
}

fn read_api_versions(mut body: Body<'_>, version: i16) -> Result<ApiVersions, DecodeError> {
    let mut answer = ApiVersions::default();
    let flexible = version >= 3;
    let count = if flexible { body.compact_count("api_keys")? } else { body.count("api_keys")? };
    for _ in 0..count {
        let api_key = ApiKey(body.int16("api_key")?);
        let range = (body.int16("min_version")?, body.int16("max_version")?);
        if flexible {
            body.skip_tagged()?;
        }
        answer.ranges.insert(api_key, range);
    }
    if !flexible {
        return Ok(answer);
    }
    body.int32("throttle_time_ms")?;
    body.tagged(|tag, mut field| {
        // Tag 2 is `finalized_features`.
        if tag != 2 {
            return Ok(());
        }
        for _ in 0..field.compact_count("finalized_features")? {
            let name = field.compact_string("name")?;
            let max_version_level = field.int16("max_version_level")?;
            field.int16("min_version_level")?;
            field.skip_tagged()?;
            answer.finalized_features.insert(name, max_version_level);
        }
        Ok(())
    })?;
    Ok(answer)
}

/// Asks for the brokers of the cluster and no topic: Metadata v1, by `node_id`.
pub(crate) async fn metadata(
    connection: &mut Connection,
    versions: &ApiVersions,
) -> Result<Vec<Node>, NotYet> {
    versions.require(ApiKey::METADATA, 1)?;
    // An empty list is no topic since version 1; null would be all.
    let (frame, start) = connection.ask(ApiKey::METADATA, 1, &0i32.to_be_bytes()).await?;
    let body = Body::new("MetadataResponse", &frame, start);
    read_nodes(body).map_err(|error| rubbish(ApiKey::METADATA, error))
}

fn read_nodes(mut body: Body<'_>) -> Result<Vec<Node>, DecodeError> {
    let mut nodes = Vec::new();
    for _ in 0..body.count("brokers")? {
        let node_id = NodeId(body.int32("node_id")?);
        let host = body.string("host")?.unwrap_or_default();
        // A port beyond 65535 is nobody's; it reads as 0, and connecting to it says so.
        let port = u16::try_from(body.int32("port")?).unwrap_or(0);
        body.string("rack")?;
        nodes.push(Node { node_id, host, port });
    }
    nodes.sort();
    Ok(nodes)
}

/// Which coordinator a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    Group = 0,
    Transaction = 1,
}

/// Asks who coordinates a group or a transactional id: FindCoordinator v1.
pub(crate) async fn find_coordinator(
    connection: &mut Connection,
    versions: &ApiVersions,
    key_type: KeyType,
    key: &str,
) -> Result<Node, NotYet> {
    const API: ApiKey = ApiKey::FIND_COORDINATOR;
    versions.require(API, 1)?;
    let mut request = Vec::new();
    put_string(&mut request, key);
    request.put_i8(key_type as i8);
    let (frame, start) = connection.ask(API, 1, &request).await?;
    let mut body = Body::new("FindCoordinatorResponse", &frame, start);
    let mut read = || -> Result<(i16, Node), DecodeError> {
        body.int32("throttle_time_ms")?;
        let code = body.int16("error_code")?;
        body.string("error_message")?;
        let node_id = NodeId(body.int32("node_id")?);
        let host = body.string("host")?.unwrap_or_default();
        let port = u16::try_from(body.int32("port")?).unwrap_or(0);
        Ok((code, Node { node_id, host, port }))
    };
    let (code, node) = read().map_err(|error| rubbish(API, error))?;
    code_of(API, code)?;
    Ok(node)
}

/// Asks its coordinator for a producer id of a transactional id: InitProducerId v0.
pub(crate) async fn init_producer_id(
    connection: &mut Connection,
    versions: &ApiVersions,
    transactional_id: &str,
) -> Result<(), NotYet> {
    const API: ApiKey = ApiKey::INIT_PRODUCER_ID;
    versions.require(API, 0)?;
    let mut request = Vec::new();
    put_string(&mut request, transactional_id);
    request.put_i32(10_000); // transaction_timeout_ms
    let (frame, start) = connection.ask(API, 0, &request).await?;
    let mut body = Body::new("InitProducerIdResponse", &frame, start);
    let mut read = || body.int32("throttle_time_ms").and_then(|_| body.int16("error_code"));
    code_of(API, read().map_err(|error| rubbish(API, error))?)
}

/// Asks its coordinator about a member no group has: Heartbeat v0. A coordinator that serves
/// says so by not knowing it.
pub(crate) async fn heartbeat(
    connection: &mut Connection,
    versions: &ApiVersions,
    group_id: &str,
) -> Result<(), NotYet> {
    const API: ApiKey = ApiKey::HEARTBEAT;
    versions.require(API, 0)?;
    let mut request = Vec::new();
    put_string(&mut request, group_id);
    request.put_i32(0); // generation_id
    put_string(&mut request, "nobody"); // member_id
    let (frame, start) = connection.ask(API, 0, &request).await?;
    let mut body = Body::new("HeartbeatResponse", &frame, start);
    match ErrorCode(body.int16("error_code").map_err(|error| rubbish(API, error))?) {
        ErrorCode::UNKNOWN_MEMBER_ID => Ok(()),
        code => code_of(API, code.0),
    }
}

fn rubbish(api_key: ApiKey, error: DecodeError) -> NotYet {
    NotYet::Rubbish { api_key, error }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("the probe's own strings are short"));
    out.put_slice(text.as_bytes());
}

fn put_compact(out: &mut Vec<u8>, text: &str) {
    out.put_u8(u8::try_from(text.len() + 1).expect("one byte of varint is enough") & 0x7f);
    out.put_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Chance;
    use rand::Rng;

    /// Two APIs, `transaction.version` 2 finalized, as version 3 answers it after the error code.
    fn api_versions_body() -> Vec<u8> {
        let mut body = vec![3];
        for (key, min, max) in [(0i16, 0i16, 12i16), (18, 0, 4)] {
            [key, min, max].iter().for_each(|number| body.put_i16(*number));
            body.put_u8(0);
        }
        body.put_i32(0); // throttle_time_ms
        let mut features = vec![2];
        put_compact(&mut features, "transaction.version");
        [2i16, 0].iter().for_each(|level| features.put_i16(*level));
        features.put_u8(0);
        body.extend([2, 1, 8, 0, 0, 0, 0, 0, 0, 0, 9, 2, features.len() as u8]);
        body.extend(features);
        body
    }

    fn nodes_body() -> Vec<u8> {
        let mut body = Vec::new();
        body.put_i32(2);
        for (node_id, port) in [(2, 9093), (1, 70_000)] {
            body.put_i32(node_id);
            put_string(&mut body, "127.0.0.1");
            body.put_i32(port);
            body.put_i16(-1); // rack
        }
        body
    }

    #[test]
    fn finalized_features_are_read_from_their_tag() {
        let bytes = api_versions_body();
        let answer = read_api_versions(Body::new("X", &bytes, 0), 3).expect("it is whole");
        assert_eq!(answer.finalized_features, BTreeMap::from([("transaction.version".into(), 2)]));
        assert_eq!(answer.ranges[&ApiKey::PRODUCE], (0, 12));
        assert!(answer.require(ApiKey::PRODUCE, 12).is_ok());
        let unserved = answer.require(ApiKey::FETCH, 4).expect_err("it is not listed").to_string();
        assert_eq!(unserved, "Fetch version 4 is not served (versions 0 to -1 are)");
    }

    #[test]
    fn nodes_come_in_order_and_an_impossible_port_is_nobodys() {
        let bytes = nodes_body();
        let nodes = read_nodes(Body::new("X", &bytes, 0)).expect("it is whole");
        let text: Vec<String> = nodes.iter().map(Node::to_string).collect();
        assert_eq!(text, ["127.0.0.1:0", "127.0.0.1:9093"]);
    }

    #[test]
    fn no_answer_however_damaged_ends_the_tool() {
        let mut chance = Chance::from_seed(3).stream("damage");
        for round in 0..20_000 {
            let mut bytes = if round % 2 == 0 { api_versions_body() } else { nodes_body() };
            for _ in 0..=round % 4 {
                let at = chance.next_u32() as usize % bytes.len();
                bytes[at] = chance.next_u32() as u8;
            }
            bytes.truncate(chance.next_u32() as usize % (bytes.len() + 1));
            for version in [0, 3] {
                let _ = read_api_versions(Body::new("X", &bytes, 0), version);
            }
            let _ = read_nodes(Body::new("X", &bytes, 0));
        }
    }
}
