//! Reads blocks on several threads and puts them together in their order.
//!
//! Whoever is free takes the next block and reads it into a chunk; whoever finds the next chunk in
//! order ready, and nobody at it, hands it to the builder. Slots (a block and its chunk) are few
//! and used again, which bounds what is in memory and keeps it warm.

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::history::columns::Builder;
use crate::history::columns::chunk::Chunk;
use crate::history::observation::Oddity;

use super::blocks::{Block, Blocks};
use super::grammar::Grammar;
use super::json::Json;
use super::notation::Malformed;
use super::{Format, Stopped};

/// A block and what became of it.
#[derive(Default)]
struct Slot {
    text: Vec<u8>,
    chunk: Chunk,
    /// Where the event that broke the reading begins, and why.
    broken: Option<(usize, Malformed)>,
}

/// Where blocks come from.
struct Source<R> {
    blocks: Blocks<R>,
    free: Vec<Slot>,
    next: u64,
    ended: bool,
}

/// Chunks that are read.
#[derive(Default)]
struct Ready {
    waiting: BTreeMap<u64, (Slot, Block)>,
    next: u64,
    /// Whether somebody is handing chunks to the builder.
    busy: bool,
}

/// Everything the threads share.
struct Shared<R> {
    format: Format,
    source: Mutex<Source<R>>,
    slot_freed: Condvar,
    ready: Mutex<Ready>,
    outcome: Mutex<Outcome>,
}

/// What has been put together so far.
#[derive(Default)]
struct Outcome {
    builder: Builder,
    stopped: Option<Stopped>,
}

/// Reads all blocks; gives what they hold, where they break off, and themselves.
pub(super) fn read_blocks<R: Read + Send>(
    blocks: Blocks<R>,
    format: Format,
    threads: NonZeroUsize,
) -> (Builder, Option<Stopped>, Blocks<R>) {
    let slots = if threads.get() == 1 { 1 } else { 2 * threads.get() };
    let free = (0..slots).map(|_| Slot::default()).collect();
    let shared = Shared {
        format,
        source: Mutex::new(Source { blocks, free, next: 0, ended: false }),
        slot_freed: Condvar::new(),
        ready: Mutex::default(),
        outcome: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    let outcome = shared.outcome.into_inner().expect("no thread panicked");
    let source = shared.source.into_inner().expect("no thread panicked");
    (outcome.builder, outcome.stopped, source.blocks)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked")
}

impl<R: Read> Shared<R> {
    fn work(&self) {
        while let Some((number, mut slot, block)) = self.take() {
            slot.read(self.format);
            self.put(number, slot, block);
        }
    }

    /// The next block, as soon as there is a slot for it.
    fn take(&self) -> Option<(u64, Slot, Block)> {
        let mut source = lock(&self.source);
        let mut slot = loop {
            if source.ended {
                return None;
            }
            match source.free.pop() {
                Some(slot) => break slot,
                None => source = self.slot_freed.wait(source).expect("no thread panicked"),
            }
        };
        let Some(block) = source.blocks.next(&mut slot.text) else {
            source.ended = true;
            self.slot_freed.notify_all();
            return None;
        };
        if block.last {
            source.ended = true;
            self.slot_freed.notify_all();
        }
        let number = source.next;
        source.next += 1;
        Some((number, slot, block))
    }

    /// Leaves a chunk; hands on all that are next in order, unless somebody else is at it.
    fn put(&self, number: u64, slot: Slot, block: Block) {
        let mut ready = lock(&self.ready);
        ready.waiting.insert(number, (slot, block));
        if ready.busy {
            return;
        }
        ready.busy = true;
        loop {
            let next = ready.next;
            let Some((mut slot, block)) = ready.waiting.remove(&next) else { break };
            ready.next += 1;
            drop(ready);
            let goes_on = lock(&self.outcome).take(&mut slot, block);
            let mut source = lock(&self.source);
            source.ended |= !goes_on;
            source.free.push(slot);
            drop(source);
            if goes_on {
                self.slot_freed.notify_one();
            } else {
                self.slot_freed.notify_all();
            }
            ready = lock(&self.ready);
        }
        ready.busy = false;
    }
}

impl Slot {
    fn read(&mut self, format: Format) {
        self.chunk.clear();
        self.broken = match format {
            Format::Jsonl => Grammar::<Json>::new(&self.text, &mut self.chunk).read_all(),
            _ => Grammar::<edn::Scanner>::new(&self.text, &mut self.chunk).read_all(),
        }
        .err();
    }
}

impl Outcome {
    /// Takes the next chunk; whether reading goes on.
    fn take(&mut self, slot: &mut Slot, block: Block) -> bool {
        if self.stopped.is_some() {
            return false;
        }
        if let Some((start, error)) = slot.broken.take() {
            if error.cut_off && block.last {
                slot.chunk.odd(Oddity::CutOff, start as u64);
            } else {
                // Where an event does not end, its beginning says more than the end of the block.
                let place = if error.cut_off { start } else { error.byte_offset };
                self.stopped = Some(Stopped {
                    byte_offset: block.byte_offset + place as u64,
                    reason: error.reason.into(),
                });
            }
        }
        self.builder.absorb(&mut slot.chunk, block.byte_offset);
        self.stopped.is_none()
    }
}
