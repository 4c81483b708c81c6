//! Bytes nobody honest would send: no panic, no time or memory to speak of, always an end.

#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kafka_wire::DecodeErrorKind;
use kafka_wire::batch::{
    Attributes, BatchBuilder, BatchIter, Compression, Header, NewRecord, OBSERVATIONS_MAX, Scratch,
    StatedInBatch, reseal,
};

/// Small enough that a bomb that got through would show in the largest allocation.
const LIMIT: usize = 1 << 20;
/// What a codec's own state and the doubling of buffers may take at once.
const ALLOCATION_MAX: usize = 2 * LIMIT + (64 << 10);

/// Remembers the largest allocation of each thread.
struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code)] // A global allocator cannot be written without; it only counts.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(size)));
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

fn largest_allocation(of: impl FnOnce()) -> usize {
    LARGEST.with(|largest| largest.set(0));
    of();
    LARGEST.with(Cell::get)
}

/// A small generator of its own: the same bytes in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Visits all there is to visit; returns how many records and faults there were.
fn visit(field: &[u8], scratch: &mut Scratch) -> (usize, usize) {
    let (mut records, mut faults) = (0, 0);
    let mut batches = BatchIter::new(field);
    for batch in batches.by_ref() {
        let Ok(batch) = batch else {
            faults += 1;
            continue;
        };
        assert_eq!(batch.bytes, &field[batch.byte_range()]);
        faults += batch.check_produced(scratch).len();
        let _offsets = (batch.header.last_offset(), batch.header.last_sequence());
        let mut iter = batch.records(scratch);
        for record in iter.by_ref() {
            records += 1;
            let count = record.headers.count_left();
            assert_eq!(record.headers.count(), count, "every header counted can be visited");
        }
        assert!(iter.errors().len() <= OBSERVATIONS_MAX);
        let (_, most) = iter.size_hint();
        assert!(most.is_none_or(|most| most <= 1 + field.len()));
        assert!(iter.finish().iter().all(|error| error.path.starts_with("batches[")));
    }
    assert!(batches.remainder().len() <= field.len());
    (records, faults)
}

fn seeds() -> Vec<Vec<u8>> {
    let headers = [Header { key: b"key", value: Some(b"value") }, Header { key: b"", value: None }];
    let codecs = [Compression::None].into_iter().chain(Compression::CODECS);
    let mut seeds: Vec<Vec<u8>> = codecs
        .map(|codec| {
            let builder = BatchBuilder {
                attributes: Attributes::default().with_compression(codec),
                ..BatchBuilder::default()
            };
            let record =
                NewRecord { key: Some(b"k"), headers: &headers, ..NewRecord::of(b"value") };
            let mut field = Vec::new();
            builder.encode([record; 5], &mut Scratch::new(), &mut field);
            builder.encode([NewRecord::of(&[7; 300]); 2], &mut Scratch::new(), &mut field);
            field
        })
        .collect();
    // A message of magic 1, a compressed one around it.
    let message = |attributes: u8, value: &[u8]| {
        let mut message = vec![0; 8];
        message.extend((14 + 8 + value.len() as u32).to_be_bytes());
        message.extend([0, 0, 0, 0, 1, attributes]);
        message.extend([0; 8]);
        message.extend((-1i32).to_be_bytes());
        message.extend((value.len() as u32).to_be_bytes());
        message.extend(value);
        message
    };
    let mut packed = Vec::new();
    Scratch::new().compress(Compression::Lz4, &message(0, b"inside").repeat(3), &mut packed);
    seeds.push([message(0, b"plain"), message(3, &packed)].concat());
    seeds
}

fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    const NUMBERS: [u8; 8] = [0, 1, 2, 0x7e, 0x7f, 0x80, 0xfe, 0xff];
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match chance.below(5) {
            _ if bytes.is_empty() => bytes.push(1),
            0 => bytes[at] = NUMBERS[chance.below(NUMBERS.len())],
            1 => bytes[at] ^= 1 << chance.below(8),
            2 => bytes.insert(at, chance.next() as u8),
            3 => drop(bytes.remove(at)),
            _ => bytes.truncate(bytes.len() - chance.below(bytes.len() / 4 + 1)),
        }
    }
}

#[test]
fn a_hundred_thousand_random_fields_end() {
    let mut chance = Chance(0x5eed);
    let mut scratch = Scratch::with_limit(LIMIT);
    let most = largest_allocation(|| {
        for round in 0..100_000 {
            let length = chance.below(300);
            let mut field: Vec<u8> = (0..length).map(|_| chance.next() as u8).collect();
            // Left as they are, nearly all end at the first length.
            if round % 2 == 0 && field.len() > 26 {
                let length = field.len() as u32 - 12;
                field[8..12].copy_from_slice(&length.to_be_bytes());
                field[16] = (round / 2 % 3) as u8;
                field[17] &= 0x0f;
            }
            visit(&field, &mut scratch);
        }
    });
    assert!(most <= ALLOCATION_MAX, "{most} bytes at once");
}

#[test]
fn two_hundred_thousand_mutated_fields_end() {
    let mut chance = Chance(0xfe2ce);
    let mut scratch = Scratch::with_limit(LIMIT);
    let seeds = seeds();
    let (mut records, mut faults) = (0, 0);
    let most = largest_allocation(|| {
        for round in 0..200_000 {
            let mut field = seeds[round % seeds.len()].clone();
            mutate(&mut field, &mut chance);
            // Some with a length and CRC that fit, so that what is inside is the only fault.
            if round % 3 == 0 && field.len() > 61 {
                let length = field.len() as u32 - 12;
                field[8..12].copy_from_slice(&length.to_be_bytes());
                reseal(&mut field);
            }
            let (more_records, more_faults) = visit(&field, &mut scratch);
            records += more_records;
            faults += more_faults;
        }
    });
    assert!(most <= ALLOCATION_MAX, "{most} bytes at once");
    assert!(records > 200_000 && faults > 200_000, "{records} records, {faults} faults");
}

#[test]
fn every_field_cut_at_every_byte_ends() {
    let mut scratch = Scratch::with_limit(LIMIT);
    for seed in seeds() {
        let first = BatchIter::new(&seed).next().unwrap().unwrap().bytes.len();
        for end in 0..seed.len() {
            visit(&seed[..end], &mut scratch);
            // The batch's length fits, what it holds does not.
            let mut field = seed[..end].to_vec();
            if end > 61 {
                field[8..12].copy_from_slice(&(end as u32 - 12).to_be_bytes());
                reseal(&mut field);
                let (_, faults) = visit(&field, &mut scratch);
                assert!(faults > 0 || end == first, "cut at {end}");
            }
        }
    }
}

fn compressed_batch(codec: Compression, payload: &[u8]) -> Vec<u8> {
    let builder = BatchBuilder {
        attributes: Attributes::default().with_compression(codec),
        stated: StatedInBatch { record_count: Some(i32::MAX), ..StatedInBatch::default() },
        ..BatchBuilder::default()
    };
    let mut field = Vec::new();
    builder.encode_payload(payload, &mut field);
    field
}

/// Compresses far more than the limit, without holding it.
fn bomb(codec: Compression) -> Vec<u8> {
    use std::io::{Read, Write};
    const BYTES: u64 = 64 * LIMIT as u64;
    let mut zeros = std::io::repeat(0).take(BYTES);
    match codec {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            std::io::copy(&mut zeros, &mut encoder).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            std::io::copy(&mut zeros, &mut encoder).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => {
            // Two gibibytes in some 65 KiB: the same frame, 32 times over.
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            std::io::copy(&mut zeros, &mut encoder).unwrap();
            encoder.flush().unwrap();
            encoder.finish().unwrap().repeat(32)
        }
        _ => {
            let mut packed = Vec::new();
            let block = vec![0; 8 * LIMIT];
            Scratch::new().compress(codec, &block, &mut packed);
            packed.repeat(8)
        }
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    for codec in Compression::CODECS {
        let field = compressed_batch(codec, &bomb(codec));
        let most = largest_allocation(|| {
            let mut scratch = Scratch::with_limit(LIMIT);
            let batch = BatchIter::new(&field).next().unwrap().unwrap();
            assert_eq!(batch.check_crc(), Ok(()));
            let errors = batch.records(&mut scratch).finish();
            let kind = DecodeErrorKind::Compression("more than the limit when decompressed");
            assert_eq!(errors.len(), 1, "{codec:?}: {errors:?}");
            assert_eq!(errors[0].kind, kind, "{codec:?}");
        });
        assert!(most <= ALLOCATION_MAX, "{codec:?}: {most} bytes at once");
    }
}

#[test]
fn the_limit_itself_is_allowed_and_one_more_is_not() {
    for codec in Compression::CODECS {
        let mut scratch = Scratch::with_limit(100_000);
        for (length, understood) in [(100_000, 100_000), (100_001, 0)] {
            let mut packed = Vec::new();
            scratch.compress(codec, &vec![9; length], &mut packed);
            let (plain, fault) = scratch.decompress(codec, &packed);
            assert_eq!(plain.len(), understood, "{codec:?}");
            assert_eq!(fault.is_some(), understood == 0, "{codec:?}");
        }
    }
}

#[test]
fn sizes_that_are_only_declared_are_not_believed() {
    // Raw snappy of 4 GiB in five bytes; the same in the framing; LZ4 that asks for blocks of
    // 4 MiB and ends; Zstandard that declares 2⁶⁰ bytes.
    let xerial = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x05".as_slice(), &[0xff; 4], &[0x0f]];
    let mut lz4 = Vec::new();
    Scratch::new().compress(Compression::Lz4, &[], &mut lz4);
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0];
    let cases = [
        (Compression::Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        // 32 MiB: within the limit, but not in five bytes.
        (Compression::Snappy, vec![0x80, 0x80, 0x80, 0x10, 0]),
        (Compression::Snappy, xerial.concat()),
        (Compression::Lz4, lz4),
        (Compression::Zstd, zstd.to_vec()),
    ];
    for (codec, payload) in cases {
        let most = largest_allocation(|| {
            let mut scratch = Scratch::new();
            let (plain, _) = scratch.decompress(codec, &payload);
            assert_eq!(plain, [0u8; 0]);
        });
        assert!(most < 256 << 10, "{codec:?}: {most} bytes at once");
    }
}

#[test]
fn what_decompresses_before_a_fault_is_kept() {
    let values: Vec<[u8; 64]> =
        (0..4000u32).map(|i| [(i.wrapping_mul(2_654_435_761) >> 7) as u8; 64]).collect();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let builder = BatchBuilder {
            attributes: Attributes::default().with_compression(codec),
            ..BatchBuilder::default()
        };
        let mut field = Vec::new();
        let records = values.iter().map(|value| NewRecord::of(value));
        builder.encode(records, &mut Scratch::new(), &mut field);
        field.truncate(field.len() - 10);
        let length = field.len() as u32 - 12;
        field[8..12].copy_from_slice(&length.to_be_bytes());
        reseal(&mut field);
        let mut scratch = Scratch::new();
        let batch = BatchIter::new(&field).next().unwrap().unwrap();
        let mut iter = batch.records(&mut scratch);
        let kept = iter.by_ref().count();
        assert!(kept > 3000, "{codec:?}: {kept}");
        let errors = iter.finish();
        assert_eq!(errors.len(), 1, "{codec:?}: {errors:?}");
        assert_eq!(errors[0].path, "batches[0].records");
    }
}

#[test]
fn many_broken_records_in_a_row_take_no_stack_and_few_words() {
    let builder = BatchBuilder {
        stated: StatedInBatch { record_count: Some(1_000_000), ..StatedInBatch::default() },
        ..BatchBuilder::default()
    };
    let mut field = Vec::new();
    // A million records of one byte: attributes, and nothing else.
    builder.encode_payload(&[2, 0].repeat(1_000_000), &mut field);
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    let mut records = batch.plain_records().unwrap();
    assert!(records.next().is_none());
    assert_eq!(records.visited(), 1_000_000);
    assert_eq!(records.errors().len(), OBSERVATIONS_MAX);
}
