//! One direction of a connection that speaks Kafka: bytes in their order into frames.
//!
//! A frame that lies in one packet is handed on where it lies; one that spans packets is gathered,
//! as much of it as is wanted. Where bytes are missing inside a frame its end is still known;
//! where its end is missing too, the next place is looked for at which a frame can begin.
//!
//! Never: allocates by a declared length; believes a frame after a hole without evidence.

use kafka_wire::frame::{FRAME_BYTES_MAX, Scan, scan};

use crate::history::wire::{Extent, Span, StreamTroubleKind};

use super::stream::Mark;

/// Bytes of a frame that are kept whatever is wanted: its header, with what decides on an answer.
const KEPT_BYTES_MIN: usize = 1_024;
/// Bytes after the prefix by which it is decided how much is wanted.
const HEAD_BYTES: usize = 8;
/// Bytes at the end of a searched part that may be the beginning of a frame's head.
const SEARCH_TAIL_BYTES: usize = 512;

/// One frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameView<'a> {
    /// All after the length prefix, as far as `extent` says.
    pub(super) bytes: &'a [u8],
    pub(super) span: Span,
    pub(super) extent: Extent,
}

/// Whether a frame can begin at some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plausible {
    Yes,
    No,
    /// More bytes would tell.
    NeedMore,
}

/// Who takes the frames of one direction.
pub(super) trait FrameTaker {
    /// How many bytes of the frame that begins so (after its prefix) are wanted.
    fn wanted(&mut self, head: &[u8]) -> usize;
    /// A frame.
    fn frame(&mut self, frame: FrameView<'_>);
    /// Something is wrong.
    fn trouble(&mut self, mark: Mark, kind: StreamTroubleKind);
    /// Whether a frame can begin with these bytes (prefix included).
    fn plausible(&self, bytes: &[u8], at_segment_start: bool) -> Plausible;
    /// Asks for memory to keep so many bytes; what is granted is given back with
    /// [`FrameTaker::release`].
    fn reserve(&mut self, bytes: usize) -> bool;
    /// Gives memory back.
    fn release(&mut self, bytes: usize);
    /// An empty buffer to gather in.
    fn buffer(&mut self) -> Vec<u8>;
    /// Takes a buffer that is no longer needed.
    fn recycle(&mut self, buffer: Vec<u8>);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A frame begins at `seen` = 0.
    Frames,
    /// It is not known where the next frame begins.
    Searching,
}

/// The state between two packets.
#[derive(Debug)]
pub(super) struct Framer {
    mode: Mode,
    /// The beginning of the current frame with its prefix, or the end of what was searched.
    kept: Vec<u8>,
    /// Bytes of the current frame that have gone by.
    seen: usize,
    /// Bytes of the current frame with its prefix; 0 while that is not known.
    total: usize,
    wanted: usize,
    extent: Extent,
    span: Span,
    reserved: usize,
    searched_bytes: u64,
    search_mark: Mark,
    /// Where in what is kept of a search segments begin.
    starts: Vec<usize>,
}

impl Framer {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Frames,
            kept: Vec::new(),
            seen: 0,
            total: 0,
            wanted: 0,
            extent: Extent::Whole,
            span: Span::default(),
            reserved: 0,
            searched_bytes: 0,
            search_mark: Mark::default(),
            starts: Vec::new(),
        }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.mode == Mode::Frames && self.seen == 0
    }

    /// It is not known whether a frame begins with the next byte.
    pub(super) fn search(&mut self) {
        self.mode = Mode::Searching;
    }

    /// Takes the next bytes of the stream.
    pub(super) fn data(
        &mut self,
        mut bytes: &[u8],
        mark: Mark,
        segment_start: bool,
        taker: &mut impl FrameTaker,
    ) {
        if self.mode == Mode::Searching {
            self.search_in(bytes, mark, segment_start, taker);
            return;
        }
        while !bytes.is_empty() {
            if self.seen == 0 {
                match scan(bytes, FRAME_BYTES_MAX) {
                    Scan::Frame { end } => {
                        let span = Span {
                            first_packet: mark.packet,
                            last_packet: mark.packet,
                            time_ns: mark.time_ns,
                            bytes: end,
                        };
                        let frame =
                            FrameView { bytes: &bytes[4..end], span, extent: Extent::Whole };
                        taker.frame(frame);
                        bytes = &bytes[end..];
                        continue;
                    }
                    Scan::BadLength(length) => {
                        taker.trouble(mark, StreamTroubleKind::BadLength(length));
                        self.mode = Mode::Searching;
                        // From the byte after: here a frame cannot begin.
                        self.searched_bytes = 1;
                        self.search_in(&bytes[1..], mark, false, taker);
                        return;
                    }
                    Scan::Incomplete { .. } => {
                        self.span.first_packet = mark.packet;
                        self.span.last_packet = mark.packet;
                        self.span.time_ns = mark.time_ns;
                    }
                }
            }
            let taken = self.gather(bytes, mark, taker);
            bytes = &bytes[taken..];
            if self.mode == Mode::Searching {
                self.search_in(bytes, mark, false, taker);
                return;
            }
        }
    }

    /// Takes bytes of a frame that spans packets; returns how many.
    fn gather(&mut self, bytes: &[u8], mark: Mark, taker: &mut impl FrameTaker) -> usize {
        self.span.touch(mark);
        if self.total == 0 {
            if self.seen == 0 {
                self.kept = taker.buffer();
            }
            let taken = bytes.len().min(4 - self.kept.len());
            self.kept.extend_from_slice(&bytes[..taken]);
            self.seen += taken;
            if let Some(prefix) = self.kept.first_chunk::<4>() {
                let length = i32::from_be_bytes(*prefix);
                match usize::try_from(length) {
                    Ok(length) if length <= FRAME_BYTES_MAX => self.begin(4 + length),
                    _ => {
                        taker.trouble(mark, StreamTroubleKind::BadLength(length));
                        self.forget(taker);
                        self.mode = Mode::Searching;
                    }
                }
            }
            if self.total == self.seen {
                self.finish(taker);
            }
            return taken;
        }
        let mut taken = bytes.len().min(self.total - self.seen);
        if self.extent == Extent::Whole && self.kept.len() < self.wanted.min(4 + HEAD_BYTES) {
            // The head first: by it, it is decided how much else is wanted.
            taken = taken.min(self.wanted - self.kept.len());
        }
        self.keep(&bytes[..taken], mark, taker);
        self.seen += taken;
        if self.seen == self.total {
            self.finish(taker);
        } else if self.kept.len() == 4 + HEAD_BYTES && self.wanted == 4 + HEAD_BYTES {
            let wanted = taker.wanted(&self.kept[4..]);
            self.wanted = wanted.max(KEPT_BYTES_MIN).saturating_add(4).min(self.total);
        }
        taken
    }

    fn begin(&mut self, total: usize) {
        self.total = total;
        self.span.bytes = total;
        self.wanted = total.min(4 + HEAD_BYTES);
        self.extent = Extent::Whole;
    }

    fn keep(&mut self, bytes: &[u8], mark: Mark, taker: &mut impl FrameTaker) {
        if matches!(self.extent, Extent::Torn | Extent::Limited) {
            return;
        }
        let room = self.wanted.saturating_sub(self.kept.len()).min(bytes.len());
        if room < bytes.len() {
            self.extent = Extent::Enough;
        }
        if room > 0 && taker.reserve(room) {
            self.reserved += room;
            self.kept.extend_from_slice(&bytes[..room]);
        } else if room > 0 {
            self.extent = Extent::Limited;
            taker.trouble(mark, StreamTroubleKind::Limited);
        }
    }

    fn finish(&mut self, taker: &mut impl FrameTaker) {
        let frame = FrameView {
            bytes: self.kept.get(4..).unwrap_or_default(),
            span: self.span,
            extent: self.extent,
        };
        taker.frame(frame);
        self.forget(taker);
    }

    /// Ends the current frame, whatever of it is there.
    fn forget(&mut self, taker: &mut impl FrameTaker) {
        taker.release(std::mem::take(&mut self.reserved));
        if self.kept.capacity() > 0 {
            taker.recycle(std::mem::take(&mut self.kept));
        }
        (self.seen, self.total, self.wanted) = (0, 0, 0);
        self.extent = Extent::Whole;
    }

    /// Bytes are missing here.
    pub(super) fn gap(&mut self, bytes: u64, mark: Mark, taker: &mut impl FrameTaker) {
        let rest = (self.total - self.seen.min(self.total)) as u64;
        if self.mode == Mode::Frames && self.total > 0 && bytes <= rest {
            self.extent = Extent::Torn;
            self.span.touch(mark);
            // At most `rest`, so it fits.
            self.seen += bytes as usize;
            if self.seen == self.total {
                self.finish(taker);
            }
            return;
        }
        if self.mode == Mode::Frames && self.total > 0 {
            self.extent = Extent::Torn;
            self.finish(taker);
        }
        self.forget(taker);
        self.mode = Mode::Searching;
    }

    /// Nothing more comes; what is gathered is torn.
    pub(super) fn end(&mut self, taker: &mut impl FrameTaker) {
        if self.mode == Mode::Frames && self.total > 0 {
            self.extent = Extent::Torn;
            self.finish(taker);
        }
        self.forget(taker);
    }

    /// Looks for the next place where a frame can begin.
    fn search_in(
        &mut self,
        bytes: &[u8],
        mark: Mark,
        segment_start: bool,
        taker: &mut impl FrameTaker,
    ) {
        let tail = std::mem::take(&mut self.kept);
        let mut starts = std::mem::take(&mut self.starts);
        if segment_start {
            starts.push(tail.len());
        }
        let buffer = [&tail[..], bytes].concat();
        let mut keep_from = buffer.len();
        for at in 0..buffer.len() {
            let at_start = starts.contains(&at);
            match taker.plausible(&buffer[at..], at_start) {
                Plausible::No => {}
                Plausible::NeedMore if buffer.len() - at > SEARCH_TAIL_BYTES => {}
                Plausible::NeedMore => keep_from = keep_from.min(at),
                Plausible::Yes => {
                    self.found(&buffer, at, tail.len(), mark, taker);
                    return;
                }
            }
        }
        self.searched_bytes += keep_from as u64;
        self.kept = buffer[keep_from..].to_vec();
        self.starts =
            starts.iter().filter(|&&at| at >= keep_from).map(|at| at - keep_from).collect();
        self.search_mark = mark;
    }

    /// A frame begins in what was searched: goes on from there.
    fn found(
        &mut self,
        buffer: &[u8],
        at: usize,
        tail_bytes: usize,
        mark: Mark,
        taker: &mut impl FrameTaker,
    ) {
        self.mode = Mode::Frames;
        let passed = self.searched_bytes + at as u64;
        self.searched_bytes = 0;
        if passed > 0 {
            taker.trouble(mark, StreamTroubleKind::Resynchronised { bytes: passed });
        }
        let (earlier, later) = buffer.split_at(tail_bytes.max(at));
        let earlier = &earlier[at.min(earlier.len())..];
        self.data(earlier, self.search_mark, false, taker);
        self.data(later, mark, false, taker);
    }
}

impl Span {
    /// Some of the message stands in that packet as well.
    fn touch(&mut self, mark: Mark) {
        let (last, this) = (self.last_packet, mark.packet);
        if this.file != last.file || this.number > last.number {
            self.last_packet = this;
            self.time_ns = mark.time_ns;
        } else if this.number < self.first_packet.number {
            self.first_packet = this;
        }
    }
}
