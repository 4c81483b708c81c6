//! Which responses name brokers, and such a response with other names in it.
//!
//! A table made from the schema at first use: every struct of every response, at any version,
//! that has both a host and a port (Metadata, FindCoordinator, DescribeCluster, the leader hints
//! that Produce, Fetch and ShareFetch carry in tagged fields, DescribeQuorum, …).
//!
//! Never: decides what a broker is called instead.

use std::sync::OnceLock;

use kafka_wire::ApiKey;
use kafka_wire::header::decode_response_header;
use kafka_wire::ids::NodeId;
use kafka_wire::schema::{Direction, Flow, Layout, Lookups, Value, message};

use super::endpoint::Endpoint;

/// Something that a response names, by what tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A broker that clients are to connect to.
    Broker(NodeId),
    /// Only its address is known: a controller, or what the response gives no id.
    Address,
}

/// The places of one API's response.
#[derive(Debug)]
pub(super) struct Naming {
    lookups: Lookups,
    /// What each path of the lookups is.
    parts: Vec<Part>,
    /// Whether its nodes are those that clients connect to.
    brokers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Id,
    Host,
    Port,
    /// `endpoint_type` of DescribeCluster: 1 lists brokers, 2 controllers (KIP-919).
    EndpointType,
}

/// One name as it stands in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    named: Named,
    host: String,
    port: i64,
}

/// How an API's responses name brokers; absent where none of them does.
pub(super) fn naming(api_key: ApiKey) -> Option<&'static Naming> {
    static TABLE: OnceLock<Vec<Option<Naming>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let keys = ApiKey::ALL.last().map_or(0, |last| last.0);
        (0..=keys).map(|key| Naming::of(ApiKey(key))).collect()
    });
    table.get(usize::try_from(api_key.0).ok()?)?.as_ref()
}

impl Naming {
    /// Whether responses of that version can name one.
    pub(super) fn is_possible(&self, version: i16) -> bool {
        let lookup = self.lookups.at(version);
        let has = |(slot, part): (usize, &Part)| {
            *part == Part::Host && lookup.is_some_and(|lookup| lookup.field(slot).is_some())
        };
        self.parts.iter().enumerate().any(has)
    }

    fn of(api_key: ApiKey) -> Option<Self> {
        // The endpoints of a streams group are those of its applications (KIP-1071).
        if matches!(api_key, ApiKey::STREAMS_GROUP_HEARTBEAT | ApiKey::STREAMS_GROUP_DESCRIBE) {
            return None;
        }
        let message = message(api_key, Direction::Response)?;
        let versions = message.versions();
        let mut structs: Vec<String> = Vec::new();
        for layout in (versions.min..=versions.max).filter_map(|version| message.layout(version)) {
            for path in structs_with_address(layout) {
                if !structs.contains(&path) {
                    structs.push(path);
                }
            }
        }
        if structs.is_empty() {
            return None;
        }
        let mut paths = Vec::new();
        let mut parts = Vec::new();
        let mut add = |path: String, part| {
            let exists = Lookups::new(api_key, Direction::Response, &[path.as_str()]).is_ok();
            if exists {
                paths.push(path);
                parts.push(part);
            }
        };
        add("endpoint_type".to_owned(), Part::EndpointType);
        for prefix in structs {
            add(format!("{prefix}node_id"), Part::Id);
            add(format!("{prefix}broker_id"), Part::Id);
            add(format!("{prefix}host"), Part::Host);
            add(format!("{prefix}port"), Part::Port);
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let lookups = Lookups::new(api_key, Direction::Response, &paths).ok()?;
        // What the quorum's own APIs name are controllers, whose ids brokers may have too.
        let brokers = !matches!(
            api_key,
            ApiKey::VOTE
                | ApiKey::BEGIN_QUORUM_EPOCH
                | ApiKey::END_QUORUM_EPOCH
                | ApiKey::DESCRIBE_QUORUM
                | ApiKey::FETCH_SNAPSHOT
                | ApiKey::UPDATE_RAFT_VOTER
        );
        Some(Self { lookups, parts, brokers })
    }

    /// Every name of a body, in the order of its bytes.
    fn read(&self, body: &[u8], version: i16) -> Vec<Found> {
        let Some(lookup) = self.lookups.at(version) else { return Vec::new() };
        let (mut found, mut id, mut brokers) = (Vec::<Found>::new(), None, self.brokers);
        lookup.read(body, |hit| {
            match self.parts[hit.slot] {
                Part::EndpointType => brokers &= hit.value.as_int() == Some(1),
                Part::Id => id = hit.value.as_int().and_then(|id| i32::try_from(id).ok()),
                Part::Host => {
                    let id = id.take().filter(|id| *id >= 0 && brokers);
                    let named = id.map_or(Named::Address, |id| Named::Broker(NodeId(id)));
                    let host = hit.value.as_str().unwrap_or_default().to_owned();
                    found.push(Found { named, host, port: -1 });
                }
                Part::Port => {
                    if let Some(found) = found.last_mut() {
                        found.port = hit.value.as_int().unwrap_or(-1);
                    }
                }
            }
            Flow::Continue(())
        });
        found
    }

    /// A frame, without its prefix, with the names that `instead` gives; absent where nothing
    /// changes or nothing can be read.
    pub(super) fn rewritten(
        &self,
        frame: &[u8],
        api_key: ApiKey,
        version: i16,
        mut instead: impl FnMut(Named, &Endpoint) -> Option<Endpoint>,
    ) -> Option<Vec<u8>> {
        let (_, body_at) = decode_response_header(frame, api_key, version).ok()?;
        let body = frame.get(body_at..)?;
        let new: Vec<Option<Endpoint>> = self
            .read(body, version)
            .into_iter()
            .map(|Found { named, host, port }| {
                // No coordinator and no leader stand as an empty host and port -1.
                let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
                let old = Some(Endpoint { host, port }).filter(|old| !old.host.is_empty())?;
                instead(named, &old).filter(|new| *new != old)
            })
            .collect();
        if new.iter().all(Option::is_none) {
            return None;
        }
        let mut nth = 0;
        let edited = self.lookups.at(version)?.rewrite(body, |hit| match self.parts[hit.slot] {
            Part::Host => new[nth].as_ref().map(|new| Value::from(new.host.as_str())),
            Part::Port => {
                nth += 1;
                new.get(nth - 1)?.as_ref().map(|new| Value::from(new.port))
            }
            Part::Id | Part::EndpointType => None,
        });
        let mut rewritten = frame[..body_at].to_vec();
        rewritten.extend_from_slice(&edited.ok()?.body);
        Some(rewritten)
    }
}

/// The structs of a layout that have a host and a port, as prefixes of their fields' paths.
fn structs_with_address(layout: &'static Layout) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![None];
    while let Some(id) = waiting.pop() {
        let fields: Vec<_> = match id {
            None => layout.fields().collect(),
            Some(id) => layout.children(id).collect(),
        };
        let has = |name: &str| fields.iter().any(|(_, field)| field.name() == name);
        if has("host") && has("port") {
            found.push(id.map_or_else(String::new, |id| format!("{}.", layout.path(id))));
        }
        let structs = fields.iter().map(|(id, _)| *id);
        waiting.extend(structs.filter(|id| layout.children(*id).len() > 0).map(Some));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_wire::header::encode_response_header;
    use kafka_wire::ids::CorrelationId;
    use kafka_wire::schema::{self, Fields, Limits};

    #[test]
    fn the_table_knows_every_response_that_names_a_broker() {
        let named: Vec<ApiKey> =
            ApiKey::ALL.iter().copied().filter(|key| naming(*key).is_some()).collect();
        let expected = [
            ApiKey::PRODUCE,
            ApiKey::FETCH,
            ApiKey::METADATA,
            ApiKey::FIND_COORDINATOR,
            ApiKey::VOTE,
            ApiKey::BEGIN_QUORUM_EPOCH,
            ApiKey::END_QUORUM_EPOCH,
            ApiKey::DESCRIBE_QUORUM,
            ApiKey::FETCH_SNAPSHOT,
            ApiKey::DESCRIBE_CLUSTER,
            ApiKey::SHARE_FETCH,
            ApiKey::SHARE_ACKNOWLEDGE,
            ApiKey::UPDATE_RAFT_VOTER,
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn in_every_version_an_id_stands_before_its_host_and_a_host_before_its_port() {
        for naming in ApiKey::ALL.iter().filter_map(|key| naming(*key)) {
            let versions = schema::versions(naming.lookups.at(0).map_or(ApiKey::PRODUCE, |l| {
                l.layout().message().api_key().expect("a response of an API")
            }));
            for lookup in versions.into_iter().flatten().filter_map(|v| naming.lookups.at(v)) {
                let mut slots: Vec<_> = (0..naming.parts.len())
                    .filter_map(|slot| Some((lookup.field(slot)?, naming.parts[slot])))
                    .filter(|(_, part)| *part != Part::EndpointType)
                    .collect();
                slots.sort_by_key(|(field, _)| *field);
                let parts: Vec<Part> = slots.into_iter().map(|(_, part)| part).collect();
                for window in parts.windows(2) {
                    let fits = matches!(
                        window,
                        [Part::Id, Part::Host] | [Part::Host, Part::Port] | [Part::Port, _]
                    );
                    assert!(fits, "{parts:?}");
                }
            }
        }
    }

    fn frame(api_key: ApiKey, version: i16, body: &Fields) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_response_header(&mut frame, api_key, version, CorrelationId(7));
        let layout = schema::layout(api_key, Direction::Response, version).expect("in the table");
        frame.extend_from_slice(&layout.encode(body).expect("it encodes"));
        frame
    }

    /// Rewrites a body and says which names were asked for; all become `localhost:1`.
    fn rewrite(api_key: ApiKey, version: i16, body: &Fields) -> (Fields, Vec<(Named, String)>) {
        let mut asked = Vec::new();
        let old = frame(api_key, version, body);
        let new = naming(api_key).expect("it names brokers").rewritten(
            &old,
            api_key,
            version,
            |named, old| {
                asked.push((named, old.to_string()));
                Some(Endpoint { host: "localhost".into(), port: 1 })
            },
        );
        let new = new.unwrap_or(old);
        let (_, at) = decode_response_header(&new, api_key, version).expect("a header");
        let layout = schema::layout(api_key, Direction::Response, version).expect("in the table");
        let decoded = layout.decode(&new[at..], Limits::NONE);
        assert_eq!(decoded.walked.complete(), Ok(()), "{api_key} {version}");
        (decoded.fields, asked)
    }

    fn broker(id_name: &'static str, id: i32) -> Fields {
        Fields::new().with(id_name, id).with("host", format!("b{id}")).with("port", 9000 + id)
    }

    #[test]
    fn brokers_are_renamed_at_every_version() {
        let cases: [(ApiKey, &str, &'static str); 4] = [
            (ApiKey::METADATA, "brokers", "node_id"),
            (ApiKey::DESCRIBE_CLUSTER, "brokers", "broker_id"),
            (ApiKey::PRODUCE, "node_endpoints", "node_id"),
            (ApiKey::FETCH, "node_endpoints", "node_id"),
        ];
        for (api_key, array, id_name) in cases {
            let mut seen = 0;
            for version in schema::versions(api_key).expect("in the table") {
                let layout = schema::layout(api_key, Direction::Response, version);
                if layout.is_none_or(|layout| layout.find(array).is_none()) {
                    continue;
                }
                let body = Fields::new().with(array, vec![broker(id_name, 1), broker(id_name, 2)]);
                let (fields, asked) = rewrite(api_key, version, &body);
                let names = [(1, "b1:9001"), (2, "b2:9002")]
                    .map(|(id, name)| (Named::Broker(NodeId(id)), name.to_owned()));
                assert_eq!(asked, names, "{api_key} {version}");
                for index in 0..2 {
                    let at = |field: &str| fields.at(&format!("{array}[{index}].{field}"));
                    assert_eq!(at("host").and_then(Value::as_str), Some("localhost"));
                    assert_eq!(at("port").and_then(Value::as_int), Some(1));
                    let id = i64::from(index) + 1;
                    assert_eq!(at(id_name).and_then(Value::as_int), Some(id));
                }
                seen += 1;
            }
            assert!(seen > 0, "{api_key}");
        }
    }

    #[test]
    fn a_coordinator_is_renamed_where_there_is_one() {
        for version in 0..=6 {
            let (body, field) = match version {
                0..4 => (broker("node_id", 3), "host"),
                _ => {
                    let none = Fields::new().with("node_id", -1).with("host", "").with("port", -1);
                    let coordinators = vec![none, broker("node_id", 3)];
                    (Fields::new().with("coordinators", coordinators), "coordinators[1].host")
                }
            };
            let (fields, asked) = rewrite(ApiKey::FIND_COORDINATOR, version, &body);
            assert_eq!(asked, [(Named::Broker(NodeId(3)), "b3:9003".to_owned())]);
            assert_eq!(fields.at(field).and_then(Value::as_str), Some("localhost"));
        }
    }

    #[test]
    fn controllers_are_no_brokers_whatever_their_id() {
        let body =
            Fields::new().with("endpoint_type", 2).with("brokers", vec![broker("broker_id", 1)]);
        let (_, asked) = rewrite(ApiKey::DESCRIBE_CLUSTER, 1, &body);
        assert_eq!(asked, [(Named::Address, "b1:9001".to_owned())]);
        let listener = Fields::new().with("name", "C").with("host", "b1").with("port", 9001);
        let node = Fields::new().with("node_id", 1).with("listeners", vec![listener]);
        let (_, asked) =
            rewrite(ApiKey::DESCRIBE_QUORUM, 2, &Fields::new().with("nodes", vec![node]));
        assert_eq!(asked, [(Named::Address, "b1:9001".to_owned())]);
    }

    #[test]
    fn a_body_that_stops_in_the_middle_is_left_as_far_as_it_cannot_be_read() {
        let body = Fields::new().with("brokers", vec![broker("node_id", 1), broker("node_id", 2)]);
        let whole = frame(ApiKey::METADATA, 12, &body);
        let naming = naming(ApiKey::METADATA).expect("it names brokers");
        for length in 0..whole.len() {
            // Whatever comes of it, nothing panics.
            naming.rewritten(&whole[..length], ApiKey::METADATA, 12, |_, _| {
                Some(Endpoint { host: "h".into(), port: 1 })
            });
        }
    }
}
