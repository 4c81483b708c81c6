//! Writes what is said and heard into pcapng files as it happens.
//!
//! Every call of the [`Tap`] appends whole blocks to a buffer; whoever finds the file free writes
//! the buffer out before it returns, and whoever finds it taken leaves its blocks to the one who
//! has it. So a lone caller's packet is with the operating system when the call returns, a crowd's
//! packets go out in few large writes, and no thread of our own is needed. What the operating
//! system has, `kill -9` does not take back.
//!
//! Never: opens a file (it is handed a way to), loses a failure to write (it is kept, see
//! [`PcapngTap::finish`]).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use capture_file::conversation::{Conversation, Frame};
use capture_file::write::{self, PacketBlock};
use capture_file::{LinkType, Side};
use rustc_hash::FxHashMap;

use crate::history::{Connection, Direction, Tap};

/// Bytes that may wait for the file; beyond them a caller waits too.
const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A buffer larger than this is given back once it is written.
const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;
/// Comments that may wait for the next packet of one connection.
const COMMENTS_MAX: usize = 64;

/// Opens the files of a capture: called with 0, then with 1 when the first is full, and so on.
pub type OpenFile = Box<dyn FnMut(u32) -> io::Result<Box<dyn Write + Send>> + Send>;

/// A [`Tap`] that writes pcapng: one interface a broker, whole TCP conversations, the actions of
/// rules as comments.
pub struct PcapngTap {
    state: Mutex<State>,
    output: Mutex<Output>,
}

/// What a capture came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recorded {
    /// Packets, counted over all files.
    pub packets: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files.
    pub files: u32,
}

/// Files of one capture, each of which begins with the same blocks.
pub struct CaptureFiles {
    open: OpenFile,
    file: Box<dyn Write + Send>,
    head: Vec<u8>,
    file_bytes: u64,
    file_bytes_max: u64,
    recorded: Recorded,
}

/// Bytes of the block that the bytes begin with; of all of them where that is none.
fn block_bytes(blocks: &[u8]) -> usize {
    let length = blocks.get(4..8).and_then(|length| length.try_into().ok());
    let length = length.map_or(0, |length| u32::from_le_bytes(length) as usize);
    if (12..=blocks.len()).contains(&length) { length } else { blocks.len() }
}

/// Bytes of the whole blocks that fit.
fn whole_blocks(blocks: &[u8], room: u64) -> usize {
    let mut fitting = 0;
    while fitting < blocks.len() {
        let next = fitting + block_bytes(&blocks[fitting..]);
        if next as u64 > room {
            break;
        }
        fitting = next;
    }
    fitting
}

impl CaptureFiles {
    /// Opens the first file and writes its head: a section with one interface.
    ///
    /// # Errors
    /// Where it cannot be opened or written.
    pub fn new(
        mut open: OpenFile,
        file_bytes_max: u64,
        link_type: LinkType,
        interface_name: &str,
    ) -> io::Result<Self> {
        let mut head = Vec::new();
        write::section_header(&mut head, concat!("fencepost ", env!("CARGO_PKG_VERSION")));
        write::interface(&mut head, link_type, interface_name);
        let file = open(0)?;
        let recorded = Recorded { files: 1, ..Recorded::default() };
        let mut files = Self { open, file, head, file_bytes: 0, file_bytes_max, recorded };
        files.write_head()?;
        Ok(files)
    }

    /// Appends whole blocks; to the next file where this one is full.
    ///
    /// # Errors
    /// Where a file cannot be opened or written.
    pub fn write(&mut self, mut blocks: &[u8]) -> io::Result<()> {
        while !blocks.is_empty() {
            let room = self.file_bytes_max.saturating_sub(self.file_bytes);
            let fitting = match blocks.len() {
                all if all as u64 <= room => all,
                _ => whole_blocks(blocks, room),
            };
            if fitting == 0 && self.file_bytes > 0 {
                self.next_file()?;
                continue;
            }
            // A file has one block, however large.
            let fitting = if fitting == 0 { block_bytes(blocks) } else { fitting };
            let (now, later) = blocks.split_at(fitting);
            self.append(now)?;
            blocks = later;
        }
        Ok(())
    }

    fn next_file(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file = (self.open)(self.recorded.files)?;
        self.recorded.files += 1;
        self.file_bytes = 0;
        self.write_head()
    }

    fn append(&mut self, blocks: &[u8]) -> io::Result<()> {
        self.file.write_all(blocks)?;
        self.file.flush()?;
        self.file_bytes += blocks.len() as u64;
        self.recorded.bytes += blocks.len() as u64;
        Ok(())
    }

    fn write_head(&mut self) -> io::Result<()> {
        self.file.write_all(&self.head)?;
        self.file.flush()?;
        self.recorded.bytes += self.head.len() as u64;
        Ok(())
    }

    /// One packet more is among the blocks.
    pub fn count_packet(&mut self) {
        self.recorded.packets += 1;
    }

    /// What there is so far.
    #[must_use]
    pub fn recorded(&self) -> Recorded {
        self.recorded
    }
}

impl PcapngTap {
    /// Opens the first file and writes its head. A file that has more than `file_bytes_max` bytes
    /// is followed by the next.
    ///
    /// # Errors
    /// Where the file cannot be opened or written.
    pub fn new(open: OpenFile, file_bytes_max: u64) -> io::Result<Self> {
        let mut output = Output { open, file: None, files: 0, spare: Vec::new(), error: None };
        output.rotate()?;
        let state = State::new(file_bytes_max);
        let tap = Self { state: Mutex::new(state), output: Mutex::new(output) };
        tap.write_out();
        let failed = lock(&tap.output).error.take();
        failed.map_or(Ok(tap), Err)
    }

    /// Keeps the secrets of a TLS connection (lines as in an `SSLKEYLOGFILE`), so that packet
    /// tools can open what was recorded in cipher beside this file.
    pub fn secrets(&self, tls_key_log: &[u8]) {
        self.with(|state| {
            let from = state.pending.len();
            write::secrets(&mut state.pending, write::SECRETS_TLS_KEY_LOG, tls_key_log);
            let block = state.pending[from..].to_vec();
            state.head.extend_from_slice(&block);
        });
    }

    /// Writes what still waits and says what came of it all.
    ///
    /// # Errors
    /// The first failure to write; what came before it is in the files.
    pub fn finish(&self) -> io::Result<Recorded> {
        let mut output = lock(&self.output);
        output.drain(&self.state);
        if let Some(error) = output.error.take() {
            return Err(error);
        }
        output.file.as_mut().map_or(Ok(()), |file| file.flush())?;
        let state = lock(&self.state);
        Ok(Recorded { packets: state.packets, bytes: state.bytes, files: output.files })
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = lock(&self.state);
            change(&mut state);
            state.rotate_if_full();
            state.pending.len()
        };
        if waiting > PENDING_BYTES_MAX {
            lock(&self.output).drain(&self.state);
        } else {
            self.write_out();
        }
    }

    /// Writes out what waits, unless somebody else is at it and will see it.
    fn write_out(&self) {
        loop {
            match self.output.try_lock() {
                Ok(mut output) => output.drain(&self.state),
                Err(TryLockError::Poisoned(output)) => output.into_inner().drain(&self.state),
                Err(TryLockError::WouldBlock) => return,
            }
            // Between the last look of `drain` and the release of the file somebody may have left
            // blocks behind, trusting us.
            if lock(&self.state).pending.is_empty() {
                return;
            }
        }
    }
}

impl Tap for PcapngTap {
    fn opened(&self, connection: Connection, client: SocketAddr, broker: SocketAddr, time_ns: u64) {
        self.with(|state| {
            let interface = state.interface_of(broker);
            let conversation = Conversation::new(client, broker, connection.0);
            let mut talk = Talk { interface, conversation, comments: Vec::new() };
            state.record(&mut talk, time_ns, |conversation, emit| conversation.open(emit));
            state.talks.insert(connection, talk);
        });
    }

    fn bytes(&self, connection: Connection, direction: Direction, time_ns: u64, bytes: &[u8]) {
        self.on(connection, |state, talk| {
            let from = side(direction);
            state.record(talk, time_ns, |conversation, emit| conversation.data(from, bytes, emit));
        });
    }

    /// The comment stands on the receiver's acknowledgement of what it is about, or, where nothing
    /// waits to be acknowledged, on the connection's next packet.
    fn action(&self, connection: Connection, direction: Direction, time_ns: u64, action: &str) {
        self.on(connection, |state, talk| {
            if talk.comments.len() < COMMENTS_MAX {
                talk.comments.push(action.to_owned());
            }
            let receiver = side(direction).other();
            state.record(talk, time_ns, |conversation, emit| {
                conversation.acknowledge(receiver, emit);
            });
        });
    }

    fn closed(&self, connection: Connection, by: Direction, time_ns: u64) {
        self.ended(connection, |state, talk| {
            state.record(talk, time_ns, |conversation, emit| conversation.close(side(by), emit));
        });
    }

    fn reset(&self, connection: Connection, by: Direction, time_ns: u64) {
        self.ended(connection, |state, talk| {
            state.record(talk, time_ns, |conversation, emit| conversation.reset(side(by), emit));
        });
    }
}

impl PcapngTap {
    /// Does something with a connection that was opened; any other is none of ours.
    fn on(&self, connection: Connection, what: impl FnOnce(&mut State, &mut Talk)) {
        self.with(|state| {
            if let Some(mut talk) = state.talks.remove(&connection) {
                what(state, &mut talk);
                state.talks.insert(connection, talk);
            }
        });
    }

    fn ended(&self, connection: Connection, what: impl FnOnce(&mut State, &mut Talk)) {
        self.with(|state| {
            if let Some(mut talk) = state.talks.remove(&connection) {
                what(state, &mut talk);
            }
        });
    }
}

/// Bytes of a request are the client's, bytes of a response the broker's.
fn side(direction: Direction) -> Side {
    match direction {
        Direction::Request => Side::Client,
        Direction::Response => Side::Server,
    }
}

/// One open connection.
struct Talk {
    interface: u32,
    conversation: Conversation,
    comments: Vec<String>,
}

/// The blocks that wait for the file, and what the next ones depend on.
struct State {
    pending: Vec<u8>,
    /// Where in `pending` a new file begins.
    cuts: Vec<usize>,
    /// The blocks every file begins with: section, interfaces, secrets.
    head: Vec<u8>,
    interfaces: Vec<SocketAddr>,
    talks: FxHashMap<Connection, Talk>,
    file_bytes_max: u64,
    /// Where in `pending` the current file begins, less what of it was already written.
    file_start: i64,
    packets: u64,
    bytes: u64,
}

impl State {
    fn new(file_bytes_max: u64) -> Self {
        let mut head = Vec::new();
        write::section_header(&mut head, concat!("fencepost ", env!("CARGO_PKG_VERSION")));
        Self {
            pending: head.clone(),
            cuts: Vec::new(),
            head,
            interfaces: Vec::new(),
            talks: FxHashMap::default(),
            file_bytes_max,
            file_start: 0,
            packets: 0,
            bytes: 0,
        }
    }

    fn interface_of(&mut self, broker: SocketAddr) -> u32 {
        let known = self.interfaces.iter().position(|&b| b == broker);
        let number = known.unwrap_or_else(|| {
            self.interfaces.push(broker);
            let from = self.pending.len();
            write::interface(&mut self.pending, LinkType::ETHERNET, &format!("broker {broker}"));
            self.head.extend_from_slice(&self.pending[from..]);
            self.interfaces.len() - 1
        });
        number as u32
    }

    /// Appends the frames something makes of a conversation; the first carries what comments wait.
    fn record(
        &mut self,
        talk: &mut Talk,
        time_ns: u64,
        what: impl FnOnce(&mut Conversation, &mut dyn FnMut(Frame<'_>)),
    ) {
        let Talk { interface, conversation, comments } = talk;
        what(conversation, &mut |frame| {
            let (headers, payload, interface) = (frame.headers, frame.payload, *interface);
            let block = PacketBlock { interface, time_ns, headers, payload, comments };
            write::packet(&mut self.pending, &block);
            self.packets += 1;
            comments.clear();
        });
    }

    fn rotate_if_full(&mut self) {
        let file_bytes = self.pending.len() as i64 - self.file_start;
        if file_bytes.unsigned_abs() > self.file_bytes_max {
            self.file_start = self.pending.len() as i64;
            self.cuts.push(self.pending.len());
            self.pending.extend_from_slice(&self.head);
        }
    }

    /// Hands over what waits, in exchange for an empty buffer.
    fn take(&mut self, empty: Vec<u8>) -> (Vec<u8>, Vec<usize>) {
        self.bytes += self.pending.len() as u64;
        self.file_start -= self.pending.len() as i64;
        (std::mem::replace(&mut self.pending, empty), std::mem::take(&mut self.cuts))
    }
}

/// The file of the moment.
struct Output {
    open: OpenFile,
    file: Option<Box<dyn Write + Send>>,
    files: u32,
    spare: Vec<u8>,
    error: Option<io::Error>,
}

impl Output {
    fn rotate(&mut self) -> io::Result<()> {
        self.file = Some((self.open)(self.files)?);
        self.files += 1;
        Ok(())
    }

    /// Writes until nothing waits.
    fn drain(&mut self, state: &Mutex<State>) {
        loop {
            let (mut batch, cuts) = {
                let mut state = lock(state);
                if state.pending.is_empty() {
                    return;
                }
                state.take(std::mem::take(&mut self.spare))
            };
            if self.error.is_none() {
                self.error = self.write(&batch, &cuts).err();
            }
            batch.clear();
            if batch.capacity() <= BUFFER_BYTES_KEPT {
                self.spare = batch;
            }
        }
    }

    fn write(&mut self, batch: &[u8], cuts: &[usize]) -> io::Result<()> {
        let mut from = 0;
        for &cut in cuts.iter().chain([&batch.len()]) {
            if let Some(file) = &mut self.file {
                file.write_all(&batch[from..cut])?;
            }
            if cut < batch.len() {
                self.rotate()?;
            }
            from = cut;
        }
        Ok(())
    }
}

/// A caller that panicked elsewhere does not end the capture for the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
