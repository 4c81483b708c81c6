//! Packets of any number of connections into exchanges.
//!
//! Bounded whatever comes: so many connections are open at a time, those longest silent give way;
//! so many bytes wait for a hole to be filled, and so many are gathered for frames that span
//! packets.
//!
//! Never: reads a file or a clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use capture_file::fragment::Fragments;
use capture_file::segment::{Dissected, Segment, dissect};
use capture_file::{LinkType, Unread};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::history::tap;
use crate::history::wire::{ExchangeSink, PacketNumber, Unanswered};

use super::connection::{Context, Repute, TcpConnection};
use super::pairing::Budget;
use super::strangers::{Following, Strangers};
use super::translated::Beginnings;

/// Connections that are open at a time.
const CONNECTIONS_MAX: usize = 16_384;
/// Closed connections that are remembered for packets that come late.
const CLOSED_MAX: usize = 512;
/// Addresses that one connection may be known by.
const NAMES_MAX: usize = 4;
/// Brokers that are remembered.
const BROKERS_MAX: usize = 65_536;
/// Bytes that wait for holes to be filled, in all connections.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of segments that do not belong where their ports say, in all connections.
const STRANGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Packets between two looks at the clock for connections that wait.
const CLOCK_PACKETS: u64 = 1_024;
/// Broken packets that are kept; more are counted only.
const BROKEN_MAX: usize = 1_000;

/// Ways to carry TCP that are not followed, and are counted apart.
const UNREAD_MAX: usize = 64;

/// What may be said before the first packet.
#[derive(Debug, Clone)]
pub struct AssemblerOptions {
    /// Ports that brokers listen on. Where there are any, other ports are not looked at; where
    /// there are none, every connection is, and its first bytes tell.
    pub ports: Vec<u16>,
    /// Bytes of frames that may be gathered at a time, in all connections.
    pub gathered_bytes_max: usize,
}

impl Default for AssemblerOptions {
    fn default() -> Self {
        Self { ports: Vec::new(), gathered_bytes_max: 192 * 1024 * 1024 }
    }
}

/// Counts of packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PacketCounts {
    /// All.
    pub packets: u64,
    /// Those that are segments of TCP.
    pub tcp: u64,
    /// Those that are not, or whose ports are not wanted.
    pub other: u64,
    /// Those among the others that may carry TCP in a way that is not followed.
    pub unread: BTreeMap<Unread, u64>,
    /// Fragments that did not complete a packet.
    pub fragments: u64,
    /// Those whose headers do not fit.
    pub broken: u64,
    /// The first thousand of those, each with the reason.
    pub broken_packets: Vec<(PacketNumber, &'static str)>,
    /// Connections that were given up because too many were open.
    pub connections_given_up: u64,
}

impl PacketCounts {
    fn not_followed(&mut self, what: Unread) {
        self.other += 1;
        if self.unread.len() < UNREAD_MAX || self.unread.contains_key(&what) {
            *self.unread.entry(what).or_default() += 1;
        }
    }
}

/// Makes exchanges of packets.
pub struct Assembler<S: ExchangeSink> {
    sink: S,
    options: AssemblerOptions,
    fragments: Fragments,
    by_ends: FxHashMap<Ends, Place>,
    beginnings: Beginnings,
    connections: Vec<Option<Box<Open<S::Kept>>>>,
    free: Vec<usize>,
    last: Option<(Ends, Place)>,
    closed: VecDeque<usize>,
    waiting: Vec<usize>,
    brokers: FxHashSet<SocketAddr>,
    numbers: u64,
    budget: Budget,
    held_bytes: usize,
    strange_bytes: usize,
    counts: PacketCounts,
}

/// Both ends of a connection, the lower address first, as numbers that compare fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    addresses: [u128; 2],
    ports: [u16; 2],
}

/// Where a connection is.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    /// Its ends stand the other way round than these addresses.
    turned: bool,
}

/// A connection and what the assembler keeps beside it.
struct Open<K> {
    /// Its ends, and by which it is known behind address translation.
    ends: Vec<Ends>,
    tcp: TcpConnection<K>,
    /// The packet count when it was last heard of.
    heard: u64,
    is_closed: bool,
    waits: bool,
    strangers: Option<Box<Strangers>>,
}

impl<S: ExchangeSink> Assembler<S> {
    /// An assembler that hands exchanges to `sink`.
    pub fn new(sink: S, options: AssemblerOptions) -> Self {
        let budget = Budget::new(options.gathered_bytes_max);
        Self {
            sink,
            options,
            fragments: Fragments::default(),
            by_ends: FxHashMap::default(),
            beginnings: Beginnings::default(),
            connections: Vec::new(),
            free: Vec::new(),
            last: None,
            closed: VecDeque::new(),
            waiting: Vec::new(),
            brokers: FxHashSet::default(),
            numbers: 0,
            budget,
            held_bytes: 0,
            strange_bytes: 0,
            counts: PacketCounts::default(),
        }
    }

    /// Takes one packet.
    pub fn packet(
        &mut self,
        link_type: LinkType,
        data: &[u8],
        wire_bytes: u32,
        number: PacketNumber,
        time_ns: u64,
    ) {
        self.counts.packets += 1;
        // Taken out for the time that a segment may be borrowed from it.
        let mut fragments = std::mem::take(&mut self.fragments);
        match dissect(link_type, data, wire_bytes, &mut fragments) {
            Dissected::Tcp(segment) if self.is_wanted(&segment) => {
                self.counts.tcp += 1;
                self.segment(&segment, number, time_ns);
            }
            Dissected::Tcp(_) | Dissected::Other => self.counts.other += 1,
            Dissected::Unread(what) => self.counts.not_followed(what),
            Dissected::Fragment => self.counts.fragments += 1,
            Dissected::Broken(why) => {
                self.counts.broken += 1;
                if self.counts.broken_packets.len() < BROKEN_MAX {
                    self.counts.broken_packets.push((number, why));
                }
            }
        }
        self.fragments = fragments;
        if self.counts.packets.is_multiple_of(CLOCK_PACKETS) {
            self.look_at_clock(time_ns);
        }
    }

    fn is_wanted(&self, segment: &Segment<'_>) -> bool {
        let ports = &self.options.ports;
        ports.is_empty()
            || ports.contains(&segment.source.port())
            || ports.contains(&segment.target.port())
    }

    fn segment(&mut self, segment: &Segment<'_>, number: PacketNumber, time_ns: u64) {
        let (ends, first) = Ends::of(segment.source, segment.target);
        let mut place = self.find(ends);
        if let Some(Place { at, turned }) = place {
            let open = self.open(at);
            let end = first ^ usize::from(turned);
            let following = match &open.strangers {
                Some(strangers) => strangers.are_followed_by(end, segment),
                None => Following::No,
            };
            if following != Following::No || open.tcp.is_strange(end, segment) {
                if self.is_kept_apart(at, following, (end, segment), number, time_ns) {
                    return;
                }
                place = self.find(ends);
            } else if open.strangers.is_some() && segment.payload_bytes > 0 {
                self.forget_strangers(at);
            }
        }
        let place = place.or_else(|| self.find_translated(ends, first, segment, time_ns));
        let place = place.unwrap_or_else(|| self.begin(ends, first, segment, (number, time_ns)));
        self.last = Some((ends, place));
        let (at, end) = (place.at, first ^ usize::from(place.turned));
        let Self { connections, sink, budget, brokers, closed, waiting, .. } = self;
        let open = connections[at].as_mut().expect("an index in use has a connection");
        let held_before = open.tcp.held_cost();
        open.heard = self.counts.packets;
        let mut cx = Context { sink, budget };
        open.tcp.segment(end, segment, number, time_ns, &mut cx);
        if self.held_bytes + open.tcp.held_cost() - held_before > HELD_BYTES_MAX {
            open.tcp.give_up_all(&mut cx);
        }
        self.held_bytes = self.held_bytes + open.tcp.held_cost() - held_before;
        if open.tcp.waits() && !open.waits {
            open.waits = true;
            waiting.push(at);
        }
        if segment.flags.fin || segment.flags.rst {
            if let Some(broker) = open.tcp.certain_broker()
                && brokers.len() < BROKERS_MAX
            {
                brokers.insert(broker);
            }
            if open.tcp.is_closed() && !open.is_closed {
                open.is_closed = true;
                closed.push_back(at);
                self.forget_oldest_closed();
            }
        }
    }

    /// Takes a segment that is strange to its connection; `false` where it is the first of another,
    /// or follows from those that are, which have been taken now.
    fn is_kept_apart(
        &mut self,
        known: usize,
        following: Following,
        (end, segment): (usize, &Segment<'_>),
        number: PacketNumber,
        time_ns: u64,
    ) -> bool {
        if self.open(known).is_closed {
            self.end(known, Unanswered::Closed);
            return false;
        }
        let open = self.connections[known].as_mut().expect("an index in use has a connection");
        let mut strangers = open.strangers.take().unwrap_or_default();
        self.strange_bytes -= strangers.bytes();
        if following == Following::Surely {
            let begun_anew = strangers.begin();
            self.end(known, if begun_anew { Unanswered::Closed } else { Unanswered::CaptureEnded });
            for stranger in strangers.into_kept() {
                self.segment(&stranger.segment(), stranger.number, stranger.time_ns);
            }
            return false;
        }
        strangers.keep(end, segment, number, time_ns);
        if self.strange_bytes + strangers.bytes() <= STRANGE_BYTES_MAX {
            self.strange_bytes += strangers.bytes();
            open.strangers = Some(strangers);
        }
        true
    }

    fn forget_strangers(&mut self, at: usize) {
        let strangers = self.connections[at].as_mut().and_then(|open| open.strangers.take());
        self.strange_bytes -= strangers.map_or(0, |strangers| strangers.bytes());
    }

    fn find(&self, ends: Ends) -> Option<Place> {
        match self.last {
            Some((last, place)) if last == ends => Some(place),
            _ => self.by_ends.get(&ends).copied(),
        }
    }

    /// The connection that a SYN begins under other addresses, which are its own from now on.
    fn find_translated(
        &mut self,
        ends: Ends,
        first: usize,
        segment: &Segment<'_>,
        time_ns: u64,
    ) -> Option<Place> {
        let at = self.beginnings.find(segment, time_ns)?;
        let open = self.connections[at].as_mut()?;
        let client = open.tcp.client().filter(|_| open.ends.len() < NAMES_MAX)?;
        open.ends.push(ends);
        let place = Place { at, turned: client != first };
        self.by_ends.insert(ends, place);
        Some(place)
    }

    fn open(&self, at: usize) -> &Open<S::Kept> {
        self.connections[at].as_ref().expect("an index in use has a connection")
    }

    fn all_open(&self) -> impl Iterator<Item = (usize, &Open<S::Kept>)> {
        self.connections.iter().enumerate().filter_map(|(at, o)| o.as_deref().map(|o| (at, o)))
    }

    fn begin(
        &mut self,
        ends: Ends,
        end: usize,
        segment: &Segment<'_>,
        first: (PacketNumber, u64),
    ) -> Place {
        if self.by_ends.len() >= CONNECTIONS_MAX {
            self.give_up_silent();
        }
        let mut addresses = [segment.source, segment.target];
        if end == 1 {
            addresses.reverse();
        }
        let repute = addresses.map(|address| {
            let named = self.options.ports.contains(&address.port());
            if named || self.brokers.contains(&address) { Repute::Broker } else { Repute::Unknown }
        });
        let number = tap::Connection(self.numbers);
        self.numbers += 1;
        let tcp = TcpConnection::new(number, addresses, repute, first);
        let open = Box::new(Open {
            ends: vec![ends],
            tcp,
            heard: 0,
            is_closed: false,
            waits: false,
            strangers: None,
        });
        let at = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[at] = Some(open);
        self.beginnings.keep(segment, first.1, at);
        let place = Place { at, turned: false };
        self.by_ends.insert(ends, place);
        place
    }

    /// Nothing more is expected of a connection.
    fn end(&mut self, at: usize, why: Unanswered) {
        self.forget_strangers(at);
        let Some(mut open) = self.connections[at].take() else { return };
        let held_before = open.tcp.held_cost();
        let mut cx = Context { sink: &mut self.sink, budget: &mut self.budget };
        open.tcp.end(why, &mut cx);
        self.held_bytes -= held_before;
        for ends in &open.ends {
            self.by_ends.remove(ends);
        }
        if open.tcp.is_begun() {
            self.beginnings.forget(at);
        }
        self.last = None;
        if open.is_closed {
            self.closed.retain(|&closed| closed != at);
        }
        if open.waits {
            self.waiting.retain(|&waiting| waiting != at);
        }
        self.free.push(at);
    }

    fn forget_oldest_closed(&mut self) {
        if self.closed.len() > CLOSED_MAX
            && let Some(&oldest) = self.closed.front()
        {
            self.end(oldest, Unanswered::Closed);
        }
    }

    /// Gives up the eighth of the connections that was silent longest.
    fn give_up_silent(&mut self) {
        let mut heard: Vec<(u64, usize)> =
            self.all_open().map(|(at, open)| (open.heard, at)).collect();
        heard.sort_unstable();
        for &(_, at) in &heard[..heard.len() / 8] {
            self.counts.connections_given_up += 1;
            self.end(at, Unanswered::CaptureEnded);
        }
    }

    /// Ends what was waited for long enough, in connections that are silent themselves.
    fn look_at_clock(&mut self, time_ns: u64) {
        let Self { connections, sink, budget, waiting, held_bytes, .. } = self;
        waiting.retain(|&at| {
            let Some(open) = &mut connections[at] else { return false };
            let held_before = open.tcp.held_cost();
            open.tcp.look_at_clock(time_ns, &mut Context { sink, budget });
            *held_bytes = *held_bytes + open.tcp.held_cost() - held_before;
            open.waits = open.tcp.waits();
            open.waits
        });
    }

    /// Packets so far.
    #[must_use]
    pub fn counts(&self) -> &PacketCounts {
        &self.counts
    }

    /// The capture has ended: every connection is closed, in the order of their numbers.
    #[must_use]
    pub fn finish(mut self) -> (S, PacketCounts) {
        let mut open: Vec<(u64, usize)> =
            self.all_open().map(|(at, open)| (open.tcp.number.0, at)).collect();
        open.sort_unstable();
        for (_, at) in open {
            self.end(at, Unanswered::CaptureEnded);
        }
        (self.sink, self.counts)
    }
}

impl Ends {
    /// The ends in order, and which of them the first is.
    fn of(source: SocketAddr, target: SocketAddr) -> (Self, usize) {
        let number = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => u128::from(v4.ip().to_bits()),
            SocketAddr::V6(v6) => v6.ip().to_bits(),
        };
        let source = (number(source), source.port());
        let target = (number(target), target.port());
        let end = usize::from(source > target);
        let (low, high) = if end == 0 { (source, target) } else { (target, source) };
        (Self { addresses: [low.0, high.0], ports: [low.1, high.1] }, end)
    }
}
