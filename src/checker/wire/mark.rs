//! An exchange as a witness, packed: the log of a long capture keeps one for each batch.

use crate::history::facts::{Moment, Seen};
use crate::history::wire::PacketNumber;

/// What happens so soon after something happens at once.
pub(super) const AT_ONCE_NS: u64 = 500_000_000;

/// Connection, correlation id, and when request and response were whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    request_ns: u64,
    response_ns: u64,
    connection: u32,
    correlation_id: i32,
    request: u32,
    /// 0 where there is no response: packets count from 1.
    response: u32,
    files: [u16; 2],
}

impl Mark {
    pub(super) fn of(seen: &Seen) -> Self {
        let response = seen.response.unwrap_or_default();
        let file = |moment: Moment| u16::try_from(moment.packet.file).unwrap_or(u16::MAX);
        let number = |moment: Moment| u32::try_from(moment.packet.number).unwrap_or(u32::MAX);
        Self {
            request_ns: seen.request.time_ns,
            response_ns: response.time_ns,
            connection: u32::try_from(seen.connection.0).unwrap_or(u32::MAX),
            correlation_id: seen.correlation_id,
            request: number(seen.request),
            response: number(response),
            files: [file(seen.request), file(response)],
        }
    }

    /// An exchange of a moment.
    #[cfg(test)]
    pub(super) fn at_ns(time_ns: u64) -> Self {
        let request = Moment { time_ns, ..Moment::default() };
        Self::of(&Seen { request, ..Seen::default() })
    }

    pub(super) fn connection(&self) -> u64 {
        self.connection.into()
    }

    pub(super) fn correlation_id(&self) -> i32 {
        self.correlation_id
    }

    pub(super) fn request(&self) -> Moment {
        let packet = PacketNumber { file: self.files[0].into(), number: self.request.into() };
        Moment { packet, time_ns: self.request_ns }
    }

    pub(super) fn response(&self) -> Option<Moment> {
        let packet = PacketNumber { file: self.files[1].into(), number: self.response.into() };
        (self.response != 0).then_some(Moment { packet, time_ns: self.response_ns })
    }

    /// Whether this exchange was over before the other's request was whole.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.response().is_some_and(|response| response.is_before(other.request()))
    }

    /// Whether both were captured by one clock, request and response.
    pub(super) fn is_of_one_clock_with(&self, other: &Self) -> bool {
        let mut files = self.packets().chain(other.packets()).map(|(file, _)| file);
        let first = files.next();
        files.all(|file| Some(file) == first)
    }

    /// Nanoseconds from this exchange's response to the other's request, 0 where it is earlier.
    pub(super) fn ns_until(&self, other: &Self) -> u64 {
        match self.response() {
            Some(response) => other.request_ns.saturating_sub(response.time_ns),
            None => 0,
        }
    }

    /// Whether the other followed so soon that nobody can have deleted a topic in between, created it
    /// anew and written to it.
    pub(super) fn is_just_before(&self, other: &Self) -> bool {
        self.is_before(other) && self.ns_until(other) < AT_ONCE_NS
    }

    /// Nanoseconds between the requests of both.
    pub(super) fn ns_apart(&self, other: &Self) -> u64 {
        self.request_ns.abs_diff(other.request_ns)
    }

    /// The packets: the file each is of, and its number as packet tools count.
    pub(super) fn packets(&self) -> impl Iterator<Item = (u16, u64)> {
        let packets = [(self.files[0], self.request), (self.files[1], self.response)];
        packets.into_iter().filter(|(_, number)| *number != 0).map(|(file, n)| (file, n.into()))
    }
}
