//! Spreads work over threads, so that the result is the same however many there are.
//!
//! Never: decides anything by which thread was faster.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Cuts `0..len` into one stretch a thread, in order.
pub(super) fn stretches<R: Send>(
    threads: usize,
    len: usize,
    work: impl Fn(std::ops::Range<usize>) -> R + Sync,
) -> Vec<R> {
    let threads = threads.clamp(1, len.max(1));
    let cut = |part: usize| len * part / threads;
    if threads == 1 {
        return vec![work(0..len)];
    }
    thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> =
            (0..threads).map(|part| scope.spawn(move || work(cut(part)..cut(part + 1)))).collect();
        handles.into_iter().map(|h| h.join().expect("a checking thread does not panic")).collect()
    })
}

/// Hands out `0..len` one by one to threads that each fold them into a state of its own. Which
/// state an item lands in is chance: whoever merges the states must not care.
pub(super) fn fold<S: Send>(
    threads: usize,
    len: usize,
    start: impl Fn() -> S + Sync,
    step: impl Fn(&mut S, usize) + Sync,
) -> Vec<S> {
    let threads = threads.clamp(1, len.max(1));
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = start();
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= len {
                return state;
            }
            step(&mut state, item);
        }
    };
    if threads == 1 {
        return vec![run()];
    }
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().map(|h| h.join().expect("a checking thread does not panic")).collect()
    })
}
