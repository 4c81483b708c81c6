//! Our batches through the kafka-protocol crate's decoder, its batches through ours.
//!
//! Not compared: repeated header keys and keys that are not UTF-8, which that crate loses or
//! refuses; LZ4, which there needs a C library; empty batches and null keys of headers.

#![allow(missing_docs, clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use kafka_wire::batch::{
    Attributes, BatchBuilder, BatchIter, Compression, Header, NewRecord, Scratch, TimestampType,
};
use kafka_wire::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// The codecs both sides have, with a count so that a lost feature of that crate shows.
const CODECS: [(Compression, theirs::Compression); 4] = [
    (Compression::None, theirs::Compression::None),
    (Compression::Gzip, theirs::Compression::Gzip),
    (Compression::Snappy, theirs::Compression::Snappy),
    (Compression::Zstd, theirs::Compression::Zstd),
];

#[derive(Debug, Clone)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn plain() -> impl Strategy<Value = Plain> {
    let bytes = |most| vec(any::<u8>(), 0..most);
    let headers = btree_map("[a-zé]{0,8}", option::of(bytes(20)), 0..4);
    (0i64..1 << 45, option::of(bytes(70)), option::of(bytes(300)), headers).prop_map(
        |(timestamp, key, value, headers)| Plain {
            timestamp,
            key,
            value,
            headers: headers.into_iter().collect(),
        },
    )
}

fn builder() -> impl Strategy<Value = BatchBuilder> {
    (0i64..1 << 40, any::<i32>(), 0i64..1 << 40, 0i16.., 0i32..1 << 30, any::<bool>()).prop_map(
        |(offset, leader_epoch, id, epoch, sequence, transactional)| BatchBuilder {
            base_offset: Offset(offset),
            partition_leader_epoch: LeaderEpoch(leader_epoch),
            attributes: Attributes::default().with_transactional(transactional),
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            ..BatchBuilder::default()
        },
    )
}

fn their_record(builder: &BatchBuilder, index: usize, plain: &Plain) -> theirs::Record {
    let headers: IndexMap<_, _> = plain
        .headers
        .iter()
        .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
        .collect();
    theirs::Record {
        transactional: builder.attributes.is_transactional(),
        control: false,
        delete_horizon: false,
        partition_leader_epoch: builder.partition_leader_epoch.0,
        producer_id: builder.producer_id.0,
        producer_epoch: builder.producer_epoch.0,
        timestamp_type: theirs::TimestampType::Creation,
        offset: builder.base_offset.0 + index as i64,
        sequence: builder.base_sequence.0 + index as i32,
        timestamp: plain.timestamp,
        key: plain.key.clone().map(Bytes::from),
        value: plain.value.clone().map(Bytes::from),
        headers,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_they_read(builder in builder(), records in vec(plain(), 1..20)) {
        let mut scratch = Scratch::new();
        for (ours, _) in CODECS {
            let attributes = builder.attributes.with_compression(ours);
            let builder = BatchBuilder { attributes, ..builder.clone() };
            let mut field = BytesMut::new();
            let mut writer = builder.begin(&mut field);
            for record in &records {
                let header = |(key, value): &'_ (String, Option<Vec<u8>>)| (key.clone(), value.clone());
                let owned: Vec<_> = record.headers.iter().map(header).collect();
                let headers: Vec<_> = owned
                    .iter()
                    .map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
                    .collect();
                writer.append(&NewRecord {
                    timestamp: record.timestamp,
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &headers,
                    stated: None,
                });
            }
            let _range = writer.finish(&mut scratch);
            let set = theirs::RecordBatchDecoder::decode(&mut field.freeze()).unwrap();
            let expected: Vec<_> =
                records.iter().enumerate().map(|(i, r)| their_record(&builder, i, r)).collect();
            prop_assert_eq!(&set.records, &expected);
        }
    }

    #[test]
    fn what_they_write_we_read(builder in builder(), records in vec(plain(), 1..20)) {
        let mut scratch = Scratch::new();
        let theirs: Vec<_> =
            records.iter().enumerate().map(|(i, r)| their_record(&builder, i, r)).collect();
        for (ours, compression) in CODECS {
            let mut field = BytesMut::new();
            let options = theirs::RecordEncodeOptions { version: 2, compression };
            theirs::RecordBatchEncoder::encode(&mut field, &theirs, &options).unwrap();
            let batch = BatchIter::new(&field).next().unwrap().unwrap();
            prop_assert_eq!(batch.bytes.len(), field.len());
            prop_assert_eq!(batch.check_produced(&mut scratch), []);
            let header = batch.header;
            prop_assert_eq!(header.compression(), ours);
            prop_assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
            prop_assert_eq!(header.is_transactional(), builder.attributes.is_transactional());
            prop_assert_eq!(header.producer_id, builder.producer_id);
            prop_assert_eq!(header.producer_epoch, builder.producer_epoch);
            prop_assert_eq!(header.base_sequence, builder.base_sequence);
            prop_assert_eq!(header.partition_leader_epoch, builder.partition_leader_epoch);
            for (read, written) in batch.records(&mut scratch).zip(&theirs) {
                prop_assert_eq!(read.offset.0, written.offset);
                prop_assert_eq!(read.timestamp, written.timestamp);
                prop_assert_eq!(read.key, written.key.as_deref());
                prop_assert_eq!(read.value, written.value.as_deref());
                let headers = written.headers.iter().map(|(key, value)| Header {
                    key: key.as_bytes(),
                    value: value.as_deref(),
                });
                prop_assert!(read.headers.eq(headers));
            }
        }
    }
}
