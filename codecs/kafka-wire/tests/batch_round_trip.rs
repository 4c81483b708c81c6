//! What the encoder writes, the decoder reads back, and finds nothing wrong with.

#![allow(missing_docs, clippy::unwrap_used)]

use bytes::BytesMut;
use kafka_wire::batch::{
    Attributes, BatchBuilder, BatchHeader, BatchIter, Compression, ControlRecord, ControlType,
    EndTxnMarker, Header, NewRecord, Scratch, TimestampType, reseal, rewrite_header,
};
use kafka_wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

/// A record that owns its bytes, for comparison.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

fn record() -> impl Strategy<Value = Owned> {
    let bytes = |most| vec(any::<u8>(), 0..most);
    // Few keys, so that some repeat; bytes of any kind, so that few are UTF-8.
    let header = (vec(0xfeu8.., 0..2), option::of(bytes(40)));
    let timestamp = prop_oneof![0i64..2000, -1i64..0, 1_700_000_000_000i64..1_800_000_000_000];
    (timestamp, option::of(bytes(80)), option::of(bytes(300)), vec(header, 0..4))
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers })
}

fn builder() -> impl Strategy<Value = BatchBuilder> {
    let attributes = (0i16..5, any::<[bool; 4]>()).prop_map(|(codec, [a, b, c, d])| {
        let log_append = if a { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        Attributes(codec)
            .with_timestamp_type(log_append)
            .with_transactional(b)
            .with_control(c)
            .with_delete_horizon(d)
    });
    let offset = prop_oneof![Just(0), 0..i64::MAX / 2];
    (offset, any::<i32>(), attributes, any::<i64>(), any::<i16>(), any::<i32>(), any::<bool>())
        .prop_map(|(offset, leader_epoch, attributes, id, epoch, sequence, zero)| BatchBuilder {
            base_offset: Offset(offset),
            partition_leader_epoch: LeaderEpoch(leader_epoch),
            attributes,
            base_timestamp: zero.then_some(0),
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            ..BatchBuilder::default()
        })
}

fn encode(builder: &BatchBuilder, records: &[Owned], scratch: &mut Scratch, out: &mut BytesMut) {
    let mut writer = builder.begin(out);
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        writer.append(&NewRecord {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            stated: None,
        });
    }
    assert_eq!(writer.record_count(), records.len());
    let _range = writer.finish(scratch);
}

fn check_header(header: &BatchHeader, builder: &BatchBuilder, records: &[Owned]) {
    assert_eq!(header.base_offset, builder.base_offset);
    assert_eq!(header.partition_leader_epoch, builder.partition_leader_epoch);
    assert_eq!(header.magic, 2);
    assert_eq!(header.attributes, builder.attributes);
    assert_eq!(header.producer_id, builder.producer_id);
    assert_eq!(header.producer_epoch, builder.producer_epoch);
    assert_eq!(header.base_sequence, builder.base_sequence);
    assert_eq!(header.record_count as usize, records.len());
    assert_eq!(header.last_offset_delta as usize, records.len().saturating_sub(1));
    let timestamps = records.iter().map(|record| record.timestamp);
    assert_eq!(header.max_timestamp, timestamps.max().unwrap_or(-1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn batches_of_every_kind_come_back_as_they_went_in(
        batches in vec((builder(), vec(record(), 0..30)), 1..4)
    ) {
        let mut scratch = Scratch::new();
        let mut field = BytesMut::new();
        for (builder, records) in &batches {
            encode(builder, records, &mut scratch, &mut field);
        }
        let mut read = BatchIter::new(&field);
        let mut end = 0;
        for (builder, records) in &batches {
            let batch = read.next().unwrap().unwrap();
            prop_assert_eq!(batch.byte_range().start, end);
            end = batch.byte_range().end;
            check_header(&batch.header, builder, records);
            prop_assert_eq!(batch.check(&mut scratch), []);

            let append_time = batch.header.timestamp_type() == TimestampType::LogAppendTime;
            let mut iter = batch.records(&mut scratch);
            for (offset, (read, written)) in
                (builder.base_offset.0..).zip(iter.by_ref().zip(records))
            {
                let timestamp =
                    if append_time { batch.header.max_timestamp } else { written.timestamp };
                prop_assert_eq!(read.offset, Offset(offset));
                prop_assert_eq!(read.timestamp, timestamp);
                prop_assert_eq!(read.key, written.key.as_deref());
                prop_assert_eq!(read.value, written.value.as_deref());
                let owned = |h: Header<'_>| (h.key.to_vec(), h.value.map(<[u8]>::to_vec));
                prop_assert_eq!(read.headers.map(owned).collect::<Vec<_>>(), &written.headers[..]);
            }
            prop_assert_eq!(iter.visited(), records.len());
            prop_assert_eq!(iter.finish(), []);
        }
        prop_assert!(read.next().is_none() && read.remainder().is_empty());
    }

    #[test]
    fn a_last_batch_cut_anywhere_keeps_everything_before_it(
        records in vec(record(), 1..5), cut in any::<prop::sample::Index>()
    ) {
        let mut scratch = Scratch::new();
        let mut field = BytesMut::new();
        encode(&BatchBuilder::default(), &records, &mut scratch, &mut field);
        let whole = field.len();
        encode(&BatchBuilder::default(), &records, &mut scratch, &mut field);
        let cut = whole + 1 + cut.index(field.len() - whole - 1);
        let mut read = BatchIter::new(&field[..cut]);
        prop_assert_eq!(read.next().unwrap().unwrap().check_produced(&mut scratch), []);
        let error = read.next().unwrap().unwrap_err();
        let is_cut = matches!(error.kind, kafka_wire::DecodeErrorKind::Truncated { .. });
        prop_assert!(is_cut, "{}", error);
        prop_assert_eq!(error.byte_offset, whole);
        prop_assert!(read.next().is_none());
        prop_assert_eq!(read.remainder(), &field[whole..cut]);
    }

    #[test]
    fn every_codec_returns_what_it_was_given(
        length in prop_oneof![0usize..100, 30_000usize..40_000, 60_000usize..300_000],
        letters in 1u64..=256,
        seed in any::<u64>(),
    ) {
        let letter = |i: u64| ((seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % letters;
        let bytes: Vec<u8> = (0..length as u64).map(|i| letter(i) as u8).collect();
        let mut scratch = Scratch::new();
        for codec in Compression::CODECS {
            let mut packed = Vec::new();
            scratch.compress(codec, &bytes, &mut packed);
            let (plain, fault) = scratch.decompress(codec, &packed);
            prop_assert_eq!(fault, None, "{:?}", codec);
            prop_assert!(plain == bytes, "{:?}", codec);
        }
    }
}

#[test]
fn a_thousand_records_are_one_batch_whatever_the_sequence() {
    let builder = BatchBuilder { base_sequence: Sequence(-1), ..BatchBuilder::default() };
    let mut field = Vec::new();
    let records = (0..1000).map(|_| NewRecord::of(b"v"));
    builder.encode(records, &mut Scratch::new(), &mut field);
    let batches: Vec<_> = BatchIter::new(&field).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].check_produced(&mut Scratch::new()), []);
}

#[test]
fn plain_records_outlive_the_scratch_and_point_into_the_field() {
    let mut field = Vec::new();
    BatchBuilder::default().encode([NewRecord::of(b"here")], &mut Scratch::new(), &mut field);
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    let record = batch.plain_records().unwrap().next().unwrap();
    assert!(field.as_ptr_range().contains(&record.value.unwrap().as_ptr()));
    assert_eq!(record.byte_offset, 61);
    assert_eq!(record.byte_offset + record.byte_length, field.len());
}

#[test]
fn markers_come_back_as_they_went_in() {
    for (control_type, coordinator_epoch) in
        [(ControlType::Commit, 7), (ControlType::Abort, -1), (ControlType::Other(2), 0)]
    {
        let key = ControlRecord { version: 0, control_type }.encode();
        let value = EndTxnMarker { version: 0, coordinator_epoch }.encode();
        let record = NewRecord { key: Some(&key), ..NewRecord::of(&value) };
        let builder = BatchBuilder {
            attributes: Attributes::default().with_control(true).with_transactional(true),
            ..BatchBuilder::default()
        };
        let mut field = Vec::new();
        builder.encode([record], &mut Scratch::new(), &mut field);
        let batch = BatchIter::new(&field).next().unwrap().unwrap();
        assert!(batch.header.is_control() && batch.header.is_transactional());
        let record = batch.plain_records().unwrap().next().unwrap();
        let control = ControlRecord::decode(record.key.unwrap()).unwrap();
        assert_eq!(control, ControlRecord { version: 0, control_type });
        let marker = EndTxnMarker::decode(record.value.unwrap()).unwrap();
        assert_eq!(marker.coordinator_epoch, coordinator_epoch);
    }
    assert!(ControlRecord::decode(&[0, 0, 0]).is_err());
    assert!(ControlRecord::decode(&[0xff, 0, 0, 0]).is_err());
    assert!(EndTxnMarker::decode(&[0, 0, 0, 0, 0]).is_err());
}

#[test]
fn a_header_rewritten_in_place_needs_a_new_crc_only_behind_the_crc() {
    let mut field = Vec::new();
    BatchBuilder::default().encode([NewRecord::of(b"v")], &mut Scratch::new(), &mut field);
    let mut header = BatchHeader::decode(&field).unwrap();
    header.base_offset = Offset(i64::MAX);
    header.partition_leader_epoch = LeaderEpoch(9);
    assert!(rewrite_header(&mut field, &header));
    let check = |field: &[u8]| BatchIter::new(field).next().unwrap().unwrap().check_crc();
    assert_eq!(check(&field), Ok(()));

    header.producer_epoch = ProducerEpoch(3);
    assert!(rewrite_header(&mut field, &header));
    assert!(check(&field).is_err());
    assert!(reseal(&mut field).is_some());
    assert_eq!(check(&field), Ok(()));
    assert!(!rewrite_header(&mut field[..60], &header));
    assert_eq!(reseal(&mut field[..60]), None);
}

#[test]
fn last_offsets_and_sequences_hold_at_the_ends_of_their_ranges() {
    let mut field = Vec::new();
    let builder = BatchBuilder {
        base_offset: Offset(i64::MAX),
        base_sequence: Sequence(i32::MAX),
        ..BatchBuilder::default()
    };
    let records = [NewRecord::of(b"a"), NewRecord::of(b"b")];
    builder.encode(records, &mut Scratch::new(), &mut field);
    let header = BatchHeader::decode(&field).unwrap();
    assert_eq!(header.last_offset(), Offset(i64::MAX));
    assert_eq!(header.last_sequence(), Sequence(0));
    assert_eq!(
        BatchHeader { base_sequence: Sequence(-1), ..header }.last_sequence(),
        Sequence::NONE
    );
}

#[test]
fn forms_that_other_clients_write_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;

    let plain: Vec<u8> = (0..300_000u32).map(|i| (i / 7 % 251) as u8).collect();
    let lz4 = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let linked = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB);
    let checked = FrameInfo::new().block_checksums(true).content_checksum(true);
    let sized = checked.clone().content_size(Some(plain.len() as u64));
    let mut gzip = Vec::new();
    let mut xerial = Vec::new();
    for half in plain.chunks(plain.len() / 2) {
        Scratch::new().compress(Compression::Gzip, half, &mut gzip);
        Scratch::new().compress(Compression::Snappy, half, &mut xerial);
    }
    let cases = [
        ("LZ4 blocks that reach back", Compression::Lz4, lz4(linked)),
        ("LZ4 with checksums", Compression::Lz4, lz4(checked)),
        ("LZ4 with a content size", Compression::Lz4, lz4(sized)),
        (
            "raw snappy",
            Compression::Snappy,
            snap::raw::Encoder::new().compress_vec(&plain).unwrap(),
        ),
        ("two xerial streams", Compression::Snappy, xerial),
        ("two gzip members", Compression::Gzip, gzip),
        ("streamed Zstandard", Compression::Zstd, zstd::encode_all(&plain[..], 19).unwrap()),
    ];
    for (case, codec, packed) in cases {
        let mut scratch = Scratch::new();
        let (read, fault) = scratch.decompress(codec, &packed);
        assert_eq!(fault, None, "{case}");
        assert!(read == plain, "{case}");
    }

    let checked = FrameInfo::new().block_checksums(true);
    let mut damaged = lz4(checked);
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    let mut scratch = Scratch::new();
    let (_, fault) = scratch.decompress(Compression::Lz4, &damaged);
    let expected = kafka_wire::DecodeErrorKind::Compression("checksum of an LZ4 block");
    assert_eq!(fault, Some(expected));
}
