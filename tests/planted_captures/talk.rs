//! A capture as what was said in it, and what was said, changed, as a capture again.
//!
//! Bytes of TCP streams are numbered from the first one seen; a message that grows or shrinks moves
//! everything behind it, and acknowledgements with it, so that the file still shows whole
//! conversations. Packets keep their number and their time. Reads what a test needs and no more:
//! streams without a hole, nothing sent before the connection was made.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use capture_file::fragment::Fragments;
use capture_file::segment::{Dissected, dissect};
use capture_file::write::{self, PacketBlock};
use capture_file::{CaptureReader, LinkType};
use kafka_wire::ApiKey;
use kafka_wire::header::{RequestHeader, decode_response_header, produce_acks};
use kafka_wire::schema::{self, Direction, Fields, Limits, Value};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Request,
    Response,
}

/// A packet of a stream; others are kept as they are.
#[derive(Debug, Clone)]
struct InStream {
    stream: usize,
    /// The number of its first byte, and of the next the peer is to send.
    at: u64,
    acknowledged: u64,
    /// Where the TCP header and the payload begin in the packet.
    tcp_at: usize,
    payload: std::ops::Range<usize>,
}

#[derive(Debug, Clone)]
struct Packet {
    link: LinkType,
    data: Vec<u8>,
    time_ns: u64,
    inside: Option<InStream>,
}

/// One direction of a connection.
#[derive(Debug, Clone)]
struct Stream {
    base: u32,
    bytes: Vec<u8>,
    /// What stands in place of which bytes.
    replaced: BTreeMap<usize, (usize, Vec<u8>)>,
}

impl Stream {
    /// The place of a byte in the changed stream.
    fn moved(&self, at: u64) -> u64 {
        let mut moved = at as i64;
        for (&start, (end, new)) in &self.replaced {
            if at >= *end as u64 {
                moved += new.len() as i64 - (end - start) as i64;
            } else if at > start as u64 {
                let within = at as usize - start;
                moved -= within.saturating_sub(new.len()) as i64;
            }
        }
        moved as u64
    }

    fn changed(&self) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        for (&start, (end, new)) in &self.replaced {
            out.extend(&self.bytes[at..start]);
            out.extend(new);
            at = *end;
        }
        out.extend(&self.bytes[at..]);
        out
    }
}

/// A request with its response, as trees.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) connection: usize,
    pub(crate) broker: SocketAddr,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) request: Fields,
    pub(crate) response: Option<Fields>,
    /// When the last byte of each was seen.
    pub(crate) times: [u64; 2],
    /// Where they stand in their streams, length and all, and how long their headers are.
    spans: [Option<(std::ops::Range<usize>, usize)>; 2],
}

/// A capture.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    packets: Vec<Packet>,
    streams: Vec<Stream>,
    pub(crate) exchanges: Vec<Exchange>,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Where the IP header of a packet begins.
fn ip_at(link: LinkType) -> Option<usize> {
    match link {
        LinkType::ETHERNET => Some(14),
        LinkType::LINUX_SLL => Some(16),
        LinkType::LINUX_SLL2 => Some(20),
        LinkType::NULL => Some(4),
        LinkType::RAW => Some(0),
        _ => None,
    }
}

impl Talk {
    /// Reads a capture; nothing where it is not of the kind that can be changed here.
    pub(crate) fn read(capture: &[u8]) -> Option<Self> {
        let mut reader = CaptureReader::new(capture).ok()?;
        let mut fragments = Fragments::default();
        let mut talk = Self { packets: Vec::new(), streams: Vec::new(), exchanges: Vec::new() };
        let mut known: BTreeMap<(SocketAddr, SocketAddr), usize> = BTreeMap::new();
        let mut ends = Vec::new();
        while let Some(packet) = reader.next_packet().ok()? {
            let dissected =
                dissect(packet.link_type, packet.data, packet.wire_bytes, &mut fragments);
            let mut inside = None;
            if let Dissected::Tcp(segment) = dissected {
                let pair = (segment.source, segment.target);
                if segment.flags.syn && !segment.flags.ack {
                    known.remove(&pair);
                    known.remove(&(pair.1, pair.0));
                }
                let payload = packet.data.len() - segment.payload.len()..packet.data.len();
                let first = ip_at(packet.link_type)?;
                let is_v6 = packet.data[first] >> 4 == 6;
                let header = if is_v6 { 40 } else { usize::from(packet.data[first] & 15) * 4 };
                let stream = *known.entry(pair).or_insert_with(|| {
                    let base = segment.sequence.wrapping_add(u32::from(segment.flags.syn));
                    talk.streams.push(Stream {
                        base,
                        bytes: Vec::new(),
                        replaced: BTreeMap::new(),
                    });
                    ends.push((segment.source, segment.target, segment.flags.syn));
                    talk.streams.len() - 1
                });
                let known = &mut talk.streams[stream];
                let phantom = u32::from(segment.flags.syn);
                let at = segment.sequence.wrapping_add(phantom).wrapping_sub(known.base);
                // A keep-alive stands before the first byte.
                let at = if at > 1 << 31 { 0 } else { u64::from(at) };
                let (from, new) = (at as usize, segment.payload);
                if from > known.bytes.len() && !new.is_empty() {
                    return None;
                }
                let have = known.bytes.len().saturating_sub(from);
                if have < new.len() {
                    known.bytes.extend(&new[have..]);
                }
                inside = Some(InStream {
                    stream,
                    at,
                    acknowledged: u64::from(segment.acknowledgement),
                    tcp_at: first + header,
                    payload,
                });
            }
            talk.packets.push(Packet {
                link: packet.link_type,
                data: packet.data.to_vec(),
                time_ns: packet.time_ns,
                inside,
            });
        }
        talk.converse(&ends);
        Some(talk)
    }

    /// Pairs requests with responses on every connection that began in the capture.
    fn converse(&mut self, ends: &[(SocketAddr, SocketAddr, bool)]) {
        for (stream, &(source, target, begun)) in ends.iter().enumerate() {
            let back = ends[stream + 1..].iter().position(|end| (end.1, end.0) == (source, target));
            let Some(back) = back.map(|nth| stream + 1 + nth).filter(|_| begun) else { continue };
            let mut requests = Vec::new();
            for span in frames(&self.streams[stream].bytes) {
                let frame = &self.streams[stream].bytes[span.start + 4..span.end];
                let Ok((header, header_bytes)) = RequestHeader::decode(frame) else { break };
                let (api, version) = (header.api_key, header.api_version);
                let body = &frame[header_bytes..];
                let Some(request) = tree(api, version, Direction::Request, body) else { continue };
                let time = self.seen(stream, span.end).0;
                let is_silent = api == ApiKey::PRODUCE && produce_acks(body, version) == Some(0);
                requests.push((
                    is_silent,
                    Exchange {
                        connection: stream,
                        broker: target,
                        api,
                        version,
                        correlation: header.correlation_id.0,
                        request,
                        response: None,
                        times: [time, 0],
                        spans: [Some((span, header_bytes)), None],
                    },
                ));
            }
            let mut answers: BTreeMap<i32, _> = BTreeMap::new();
            for span in frames(&self.streams[back].bytes) {
                answers.insert(be32(&self.streams[back].bytes, span.start + 4) as i32, span);
            }
            for (is_silent, mut exchange) in requests {
                if let Some(span) = answers.remove(&exchange.correlation).filter(|_| !is_silent) {
                    let frame = &self.streams[back].bytes[span.start + 4..span.end];
                    let (api, version) = (exchange.api, exchange.version);
                    let header = decode_response_header(frame, api, version);
                    if let Ok((_, header_bytes)) = header {
                        let body = &frame[header_bytes..];
                        exchange.response = tree(api, version, Direction::Response, body);
                        exchange.times[1] = self.seen(back, span.end).0;
                        exchange.spans[1] = Some((span, header_bytes));
                    }
                }
                self.exchanges.push(exchange);
            }
        }
        self.exchanges.sort_by_key(|exchange| exchange.times[0]);
    }

    fn back_of(&self, stream: usize) -> usize {
        let ends = |packet: &Packet| packet.inside.as_ref().map(|inside| inside.stream);
        let port = |stream: usize| {
            let packet = self.packets.iter().find(|packet| ends(packet) == Some(stream)).unwrap();
            let at = packet.inside.as_ref().unwrap().tcp_at;
            (be16(&packet.data, at), be16(&packet.data, at + 2))
        };
        let (one, other) = port(stream);
        (stream + 1..self.streams.len()).find(|&back| port(back) == (other, one)).unwrap()
    }

    /// When and in which packet the byte before `end` was seen last, as the truth has it: the
    /// first packet that completes it.
    fn seen(&self, stream: usize, end: usize) -> (u64, usize) {
        let known = &self.streams[stream];
        for (number, packet) in self.packets.iter().enumerate() {
            let Some(inside) = packet.inside.as_ref().filter(|i| i.stream == stream) else {
                continue;
            };
            let until = known.moved(inside.at + inside.payload.len() as u64);
            if until >= end as u64 {
                return (packet.time_ns, number + 1);
            }
        }
        (0, 0)
    }

    fn stream_of(&self, exchange: usize, way: Way) -> usize {
        let stream = self.exchanges[exchange].connection;
        if way == Way::Request { stream } else { self.back_of(stream) }
    }

    /// The packets in which request and response are whole.
    pub(crate) fn packets_of(&self, exchange: usize) -> Vec<u64> {
        let both = [Way::Request, Way::Response].into_iter();
        both.filter_map(|way| {
            let (span, _) = self.exchanges[exchange].spans[way as usize].clone()?;
            let stream = self.stream_of(exchange, way);
            let end = self.streams[stream].moved(span.end as u64);
            Some(self.seen(stream, end as usize).1 as u64)
        })
        .collect()
    }

    /// The bytes of a message, with length and header.
    pub(crate) fn frame(&self, exchange: usize, way: Way) -> Vec<u8> {
        let (span, _) = self.exchanges[exchange].spans[way as usize].clone().unwrap();
        self.streams[self.stream_of(exchange, way)].bytes[span].to_vec()
    }

    /// Puts other bytes in place of a message.
    pub(crate) fn put(&mut self, exchange: usize, way: Way, frame: Vec<u8>) {
        let (span, _) = self.exchanges[exchange].spans[way as usize].clone().unwrap();
        let stream = self.stream_of(exchange, way);
        self.streams[stream].replaced.insert(span.start, (span.end, frame));
    }

    /// Puts the tree of a message, as it is now, in place of it.
    pub(crate) fn tell(&mut self, exchange: usize, way: Way) {
        let Exchange { api, version, request, response, spans, .. } = &self.exchanges[exchange];
        let (direction, fields) = match way {
            Way::Request => (Direction::Request, request),
            Way::Response => (Direction::Response, response.as_ref().unwrap()),
        };
        let header_bytes = spans[way as usize].as_ref().unwrap().1;
        let layout = schema::layout(*api, direction, *version).unwrap();
        let body = layout.encode(fields).unwrap();
        let old = self.frame(exchange, way);
        let mut frame = old[..4 + header_bytes].to_vec();
        frame.extend(body);
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.put(exchange, way, frame);
    }

    /// Takes a message out of its stream.
    pub(crate) fn silence(&mut self, exchange: usize, way: Way) {
        self.put(exchange, way, Vec::new());
    }

    /// Everything from some moment on happens so much later.
    pub(crate) fn delay(&mut self, from_ns: u64, by_ns: u64) {
        for packet in self.packets.iter_mut().filter(|packet| packet.time_ns >= from_ns) {
            packet.time_ns += by_ns;
        }
    }

    /// The exchanges of an API that were answered, in the order of their requests.
    pub(crate) fn of(&self, api: ApiKey) -> Vec<usize> {
        let all = self.exchanges.iter().enumerate();
        all.filter(|(_, e)| e.api == api && e.response.is_some()).map(|(at, _)| at).collect()
    }

    /// The answer of an exchange.
    pub(crate) fn answer(&mut self, exchange: usize) -> &mut Fields {
        self.exchanges[exchange].response.as_mut().unwrap()
    }

    /// Sets a field of an answer; whether there is one.
    pub(crate) fn reply(&mut self, exchange: usize, path: &str, value: impl Into<Value>) -> bool {
        let Some(field) = self.answer(exchange).at_mut(path) else { return false };
        *field = value.into();
        self.tell(exchange, Way::Response);
        true
    }

    /// Sets a field of a request; whether there is one.
    pub(crate) fn ask(&mut self, exchange: usize, path: &str, value: impl Into<Value>) -> bool {
        let Some(field) = self.exchanges[exchange].request.at_mut(path) else { return false };
        *field = value.into();
        self.tell(exchange, Way::Request);
        true
    }

    /// The file.
    pub(crate) fn write(&self) -> Vec<u8> {
        let changed: Vec<Vec<u8>> = self.streams.iter().map(Stream::changed).collect();
        let mut out = Vec::new();
        write::section_header(&mut out, "fencepost");
        let mut links: Vec<LinkType> = Vec::new();
        for packet in &self.packets {
            let known = links.iter().position(|known| *known == packet.link);
            let interface = known.unwrap_or_else(|| {
                links.push(packet.link);
                write::interface(&mut out, packet.link, "planted");
                links.len() - 1
            });
            let data = match &packet.inside {
                Some(inside) => self.moved(packet, inside, &changed[inside.stream]),
                None => packet.data.clone(),
            };
            let block = PacketBlock {
                interface: interface as u32,
                time_ns: packet.time_ns,
                headers: &data,
                payload: &[],
                comments: &[],
            };
            write::packet(&mut out, &block);
        }
        out
    }

    /// A packet with its part of the changed stream.
    fn moved(&self, packet: &Packet, inside: &InStream, changed: &[u8]) -> Vec<u8> {
        let stream = &self.streams[inside.stream];
        let from = stream.moved(inside.at);
        let to = stream.moved(inside.at + inside.payload.len() as u64);
        let mut data = packet.data[..inside.payload.start].to_vec();
        let end = (to as usize).min(changed.len());
        // What follows the end of a stream stands behind it.
        data.extend(&changed[(from as usize).min(end)..end]);
        let tcp = inside.tcp_at;
        let shift = (from as u32).wrapping_sub(inside.at as u32);
        let sequence = be32(&data, tcp + 4).wrapping_add(shift);
        data[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
        let ports = |p: &Packet, at: usize| (be16(&p.data, at), be16(&p.data, at + 2));
        let (one, other) = ports(packet, tcp);
        // Of connections with the same ports the one nearest to this is meant.
        let peer = self.packets.iter().filter_map(|p| p.inside.as_ref().map(|i| (p, i)));
        let peer = peer
            .filter(|(p, i)| ports(p, i.tcp_at) == (other, one))
            .map(|(_, i)| i.stream)
            .min_by_key(|peer| peer.abs_diff(inside.stream));
        if let Some(peer) = peer {
            let peer = &self.streams[peer];
            let acknowledged = (inside.acknowledged as u32).wrapping_sub(peer.base);
            if acknowledged < 1 << 31 {
                let moved = peer.moved(acknowledged.into()) as u32;
                let number = peer.base.wrapping_add(moved);
                data[tcp + 8..tcp + 12].copy_from_slice(&number.to_be_bytes());
            }
        }
        if let Some(ip) = ip_at(packet.link) {
            let grown = data.len() as i64 - packet.data.len() as i64;
            let length_at = if data[ip] >> 4 == 6 { ip + 4 } else { ip + 2 };
            let length = (i64::from(be16(&data, length_at)) + grown) as u16;
            data[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        }
        data
    }
}

/// Where whole frames stand in a stream, length and all.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut spans) = (0, Vec::new());
    while at + 8 <= bytes.len() {
        let length = be32(bytes, at) as usize;
        if length < 4 || at + 4 + length > bytes.len() {
            break;
        }
        spans.push(at..at + 4 + length);
        at += 4 + length;
    }
    spans
}

/// A body as a tree that gives the same bytes again.
fn tree(api: ApiKey, version: i16, direction: Direction, body: &[u8]) -> Option<Fields> {
    let layout = schema::layout(api, direction, version)?;
    let decoded = layout.decode(body, Limits::NONE);
    let is_whole = decoded.exact && decoded.walked.left_over == 0;
    (is_whole && decoded.walked.stopped.is_none()).then_some(decoded.fields)
}

/// Bytes as a field.
pub(crate) fn bytes(of: Vec<u8>) -> Value {
    Value::Bytes(Bytes::from(of))
}
