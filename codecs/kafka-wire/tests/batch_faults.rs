//! Each field of a batch wrong, one at a time: exactly its observation, and nothing else.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write;

use expect_test::expect;
use kafka_wire::batch::{
    Attributes, BatchBuilder, BatchHeader, BatchIter, Compression, Header, NewRecord, Scratch,
    StatedInBatch, StatedInRecord, reseal,
};
use kafka_wire::ids::Offset;

const HEADERS: [Header<'static>; 2] =
    [Header { key: b"h", value: Some(b"1") }, Header { key: b"h", value: None }];

/// Three records; the one in the middle has a key and headers and may state other things.
fn field(builder: &BatchBuilder, stated: &StatedInRecord) -> Vec<u8> {
    let mut field = Vec::new();
    let middle = NewRecord {
        timestamp: 1005,
        key: Some(b"key"),
        value: Some(b"middle"),
        headers: &HEADERS,
        stated: Some(stated),
    };
    let first = NewRecord { timestamp: 1000, ..NewRecord::of(b"first") };
    let last = NewRecord { timestamp: 1003, ..NewRecord::of(b"last") };
    builder.encode([first, middle, last], &mut Scratch::new(), &mut field);
    field
}

fn faults(field: &[u8]) -> Vec<String> {
    let mut scratch = Scratch::new();
    BatchIter::new(field)
        .flat_map(|batch| match batch {
            Ok(batch) => batch.check_produced(&mut scratch),
            Err(error) => vec![error],
        })
        .map(|error| error.to_string())
        .collect()
}

/// One line a case: what was stated, and every observation it leads to.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, case: &dyn std::fmt::Debug, field: &[u8]) {
        // The fields left to the truth say nothing.
        let case =
            format!("{case:?}").replace("Some(", "").replace("Attributes(", "").replace(')', "");
        let told: Vec<_> = case.split(&['{', '}', ',']).filter(|f| f.contains(": ")).collect();
        let told: Vec<_> =
            told.iter().filter(|f| !f.contains(": None")).map(|f| f.trim()).collect();
        self.lines(&told.join(", "), field);
    }

    fn lines(&mut self, case: &str, field: &[u8]) {
        writeln!(self.0, "{case}").unwrap();
        faults(field).iter().for_each(|fault| writeln!(self.0, "    {fault}").unwrap());
    }

    fn batch(&mut self, stated: StatedInBatch) {
        let builder = BatchBuilder { stated, ..BatchBuilder::default() };
        self.row(&stated, &field(&builder, &StatedInRecord::default()));
    }

    fn record(&mut self, stated: StatedInRecord) {
        self.row(&stated, &field(&BatchBuilder::default(), &stated));
    }

    /// Changes bytes and makes length and CRC fit again.
    fn bytes(&mut self, case: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut field = field(&BatchBuilder::default(), &StatedInRecord::default());
        change(&mut field);
        let length = field.len() as i32 - 12;
        field[8..12].copy_from_slice(&length.to_be_bytes());
        reseal(&mut field);
        self.lines(case, &field);
    }
}

#[test]
fn a_right_batch_has_no_fault() {
    let field = field(&BatchBuilder::default(), &StatedInRecord::default());
    assert_eq!(faults(&field), [""; 0]);
}

#[test]
fn each_field_of_the_header_wrong_is_its_own_observation() {
    let truth = StatedInBatch::default();
    let mut table = Table::default();
    table.batch(StatedInBatch { batch_length: Some(-1), ..truth });
    table.batch(StatedInBatch { batch_length: Some(i32::MAX), ..truth });
    table.batch(StatedInBatch { batch_length: Some(40), ..truth });
    table.batch(StatedInBatch { batch_length: Some(3), ..truth });
    table.batch(StatedInBatch { magic: Some(3), ..truth });
    table.batch(StatedInBatch { crc: Some(7), ..truth });
    table.batch(StatedInBatch { attributes: Some(Attributes(0x80)), ..truth });
    table.batch(StatedInBatch { attributes: Some(Attributes(5)), ..truth });
    table.batch(StatedInBatch { attributes: Some(Attributes(4)), ..truth });
    table.batch(StatedInBatch { last_offset_delta: Some(1), ..truth });
    table.batch(StatedInBatch { last_offset_delta: Some(3), ..truth });
    table.batch(StatedInBatch { last_offset_delta: Some(-1), ..truth });
    table.batch(StatedInBatch { base_timestamp: Some(1001), ..truth });
    table.batch(StatedInBatch { max_timestamp: Some(1003), ..truth });
    table.batch(StatedInBatch { record_count: Some(2), ..truth });
    table.batch(StatedInBatch { record_count: Some(4), ..truth });
    table.batch(StatedInBatch { record_count: Some(i32::MAX), ..truth });
    table.batch(StatedInBatch { record_count: Some(0), ..truth });
    table.batch(StatedInBatch { record_count: Some(-1), ..truth });
    expect![[r#"
        batch_length: -1
            negative length -1 at byte 8 (batches[0].batch_length)
        batch_length: 2147483647
            truncated: 2147483659 bytes needed, 107 there at byte 0 (batches[0])
        batch_length: 40
            batch shorter than its header at byte 0 (batches[0])
            truncated: 51773452 bytes needed, 55 there at byte 52 (batches[1])
        batch_length: 3
            batch too short for a magic at byte 0 (batches[0])
            batch too short for a magic at byte 15 (batches[1])
            batch too short for a magic at byte 29 (batches[2])
            negative length -1 at byte 49 (batches[3].batch_length)
        magic: 3
            unknown magic at byte 16 (batches[0])
        crc: 7
            checksum 00000007 stored, 5622d5ab computed at byte 17 (batches[0].crc)
        attributes: 128
            reserved bits are set at byte 21 (batches[0].attributes)
        attributes: 5
            compressed data: unknown codec at byte 61 (batches[0].records)
        attributes: 4
            compressed data: not whole or not Zstandard at byte 61 (batches[0].records)
        last_offset_delta: 1
            1 stated, 2 found at byte 23 (batches[0].last_offset_delta)
        last_offset_delta: 3
            3 stated, 2 found at byte 23 (batches[0].last_offset_delta)
        last_offset_delta: -1
            -1 stated, 2 found at byte 23 (batches[0].last_offset_delta)
        base_timestamp: 1001
            1005 stated, 1006 found at byte 35 (batches[0].max_timestamp)
        max_timestamp: 1003
            1003 stated, 1005 found at byte 35 (batches[0].max_timestamp)
        record_count: 2
            2 stated, 3 found at byte 57 (batches[0].record_count)
        record_count: 4
            4 stated, 3 found at byte 57 (batches[0].record_count)
        record_count: 2147483647
            2147483647 stated, 3 found at byte 57 (batches[0].record_count)
        record_count: 0
            0 stated, 3 found at byte 57 (batches[0].record_count)
        record_count: -1
            negative length -1 at byte 57 (batches[0].record_count)
    "#]]
    .assert_eq(&table.0);
}

#[test]
fn each_field_of_a_record_wrong_is_its_own_observation() {
    let truth = StatedInRecord::default();
    let mut table = Table::default();
    table.record(StatedInRecord { length: Some(-1), ..truth });
    table.record(StatedInRecord { length: Some(1000), ..truth });
    table.record(StatedInRecord { attributes: Some(1), ..truth });
    table.record(StatedInRecord { timestamp_delta: Some(6), ..truth });
    table.record(StatedInRecord { timestamp_delta: Some(i64::MAX), ..truth });
    table.record(StatedInRecord { offset_delta: Some(0), ..truth });
    table.record(StatedInRecord { offset_delta: Some(-1), ..truth });
    table.record(StatedInRecord { offset_delta: Some(2), ..truth });
    table.record(StatedInRecord { key_length: Some(-2), ..truth });
    table.record(StatedInRecord { key_length: Some(1000), ..truth });
    table.record(StatedInRecord { value_length: Some(1000), ..truth });
    table.record(StatedInRecord { header_count: Some(-1), ..truth });
    table.record(StatedInRecord { header_count: Some(1), ..truth });
    table.record(StatedInRecord { header_count: Some(3), ..truth });
    table.record(StatedInRecord { header_count: Some(i32::MAX), ..truth });
    expect![[r#"
        length: -1
            negative length -1 at byte 73 (batches[0].records[1].length)
        length: 1000
            truncated: 1000 bytes needed, 33 there at byte 73 (batches[0].records[1].length)
        attributes: 1
            reserved bits are set at byte 74 (batches[0].records[1].attributes)
        timestamp_delta: 6
            1005 stated, 1006 found at byte 35 (batches[0].max_timestamp)
        timestamp_delta: 9223372036854775807
            timestamp beyond 64 bits at byte 75 (batches[0].records[1].timestamp_delta)
            1005 stated, 1003 found at byte 35 (batches[0].max_timestamp)
        offset_delta: 0
            offset not above the one before at byte 76 (batches[0].records[1].offset_delta)
            1 stated, 2 found at byte 23 (batches[0].last_offset_delta)
        offset_delta: -1
            offset not above the one before at byte 76 (batches[0].records[1].offset_delta)
            0 stated, 2 found at byte 23 (batches[0].last_offset_delta)
        offset_delta: 2
            gap in the offsets at byte 76 (batches[0].records[1].offset_delta)
            3 stated, 2 found at byte 23 (batches[0].last_offset_delta)
        key_length: -2
            negative length -2 at byte 77 (batches[0].records[1].key)
            negative length -54 at byte 78 (batches[0].records[1].value)
            negative length -51 at byte 79 (batches[0].records[1].headers)
        key_length: 1000
            truncated: 1000 bytes needed, 18 there at byte 77 (batches[0].records[1].key)
        value_length: 1000
            truncated: 1000 bytes needed, 14 there at byte 81 (batches[0].records[1].value)
        header_count: -1
            negative length -1 at byte 88 (batches[0].records[1].headers)
        header_count: 1
            3 bytes left over at byte 93 (batches[0].records[1])
        header_count: 3
            truncated: 1 bytes needed, 0 there at byte 96 (batches[0].records[1].headers[2].key)
        header_count: 2147483647
            count 2147483647 cannot fit in the bytes left at byte 88 (batches[0].records[1].headers)
    "#]]
    .assert_eq(&table.0);
}

#[test]
fn bytes_no_field_accounts_for_are_reported() {
    let mut table = Table::default();
    // The last record is ten bytes, and one for its length.
    let last = |field: &[u8]| field.len() - 11;
    table.bytes("nothing", |_| ());
    table.bytes("three bytes after the last record", |field| field.extend([0xff; 3]));
    table.bytes("a zero after the last record", |field| field.push(0));
    table.bytes("a byte after the last header", |field| {
        let length = last(field);
        field[length] += 2;
        field.push(9);
    });
    table.bytes("a length padded with a byte of nothing", |field| {
        let length = last(field);
        field[length] |= 0x80;
        field.insert(length + 1, 0);
    });
    table.bytes("the lengths of two records padded with a byte of nothing", |field| {
        for length in [last(field), 61] {
            field[length] |= 0x80;
            field.insert(length + 1, 0);
        }
    });
    table.bytes("an offset padded with a byte of nothing", |field| {
        let length = last(field);
        field[length] += 2;
        field[length + 3] |= 0x80;
        field.insert(length + 4, 0);
    });
    table.bytes("a length longer than a number can be", |field| {
        let length = last(field);
        field.splice(length..=length, [0xff; 6]);
    });
    table.bytes("a batch cut within its last record", |field| {
        field.pop();
    });
    expect![[r#"
        nothing
        three bytes after the last record
            3 bytes left over at byte 107 (batches[0])
        a zero after the last record
            1 bytes left over at byte 107 (batches[0])
        a byte after the last header
            1 bytes left over at byte 107 (batches[0].records[2])
        a length padded with a byte of nothing
            variable-length integer longer than it need be at byte 96 (batches[0].records[2].length)
        the lengths of two records padded with a byte of nothing
            variable-length integer longer than it need be at byte 61 (batches[0].records[0].length)
            variable-length integer longer than it need be at byte 97 (batches[0].records[2].length)
        an offset padded with a byte of nothing
            variable-length integer longer than it need be at byte 99 (batches[0].records[2])
        a length longer than a number can be
            variable-length integer too long at byte 96 (batches[0].records[2].length)
        a batch cut within its last record
            truncated: 10 bytes needed, 9 there at byte 96 (batches[0].records[2].length)
    "#]]
    .assert_eq(&table.0);
}

#[test]
fn offsets_beyond_their_range_are_held_at_its_end() {
    let builder = BatchBuilder { base_offset: Offset(i64::MAX - 1), ..BatchBuilder::default() };
    let field = field(&builder, &StatedInRecord::default());
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    let mut records = batch.plain_records().unwrap();
    let offsets: Vec<i64> = records.by_ref().map(|record| record.offset.0).collect();
    assert_eq!(offsets, [i64::MAX - 1, i64::MAX, i64::MAX]);
    assert_eq!(records.errors().len(), 1);
    assert_eq!(records.errors()[0].path, "batches[0].records[2].offset_delta");
}

#[test]
fn a_fault_in_one_record_loses_no_other() {
    let stated = StatedInRecord { value_length: Some(1000), ..StatedInRecord::default() };
    let field = field(&BatchBuilder::default(), &stated);
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    let values: Vec<_> = batch.plain_records().unwrap().map(|record| record.value).collect();
    assert_eq!(values, [Some(&b"first"[..]), Some(b"last")]);
}

#[test]
fn a_fault_in_the_headers_keeps_the_record_and_the_headers_before_it() {
    let stated = StatedInRecord { header_count: Some(1), ..StatedInRecord::default() };
    let mut field = field(&BatchBuilder::default(), &stated);
    let at = field.windows(4).position(|w| w == [2, b'h', 2, b'1']).unwrap();
    field[at - 1] = 4;
    field[at + 4] = 1;
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    let mut records = batch.plain_records().unwrap();
    let middle = records.nth(1).unwrap();
    assert!(middle.headers.eq([HEADERS[0]]));
    let errors: Vec<_> = records.errors().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["negative length -1 at byte 93 (batches[0].records[1].headers[1].key)"]);
}

#[test]
fn what_compaction_leaves_is_no_fault_in_a_log_but_is_one_in_a_request() {
    let builder = BatchBuilder {
        stated: StatedInBatch { last_offset_delta: Some(9), ..StatedInBatch::default() },
        ..BatchBuilder::default()
    };
    let gap = StatedInRecord { offset_delta: Some(4), ..StatedInRecord::default() };
    let field = field(&builder, &gap);
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    assert_eq!(batch.check(&mut Scratch::new()), []);
    let paths: Vec<_> =
        batch.check_produced(&mut Scratch::new()).into_iter().map(|error| error.path).collect();
    assert_eq!(paths, ["batches[0].records[1].offset_delta", "batches[0].last_offset_delta"]);

    // All records gone, the header left: offsets and sequence are still accounted for (KIP-98).
    let mut field = Vec::new();
    builder.encode([], &mut Scratch::new(), &mut field);
    let batch = BatchIter::new(&field).next().unwrap().unwrap();
    assert_eq!(batch.check(&mut Scratch::new()), []);
    assert_eq!(batch.header.last_offset(), Offset(9));
}

#[test]
fn faults_in_compressed_records_are_placed_in_the_decompressed_bytes() {
    for codec in Compression::CODECS {
        let builder = BatchBuilder {
            attributes: Attributes::default().with_compression(codec),
            ..BatchBuilder::default()
        };
        let stated = StatedInRecord { attributes: Some(1), ..StatedInRecord::default() };
        let expected =
            "reserved bits are set at byte 13 (batches[0].decompressed.records[1].attributes)";
        assert_eq!(faults(&field(&builder, &stated)), [expected], "{codec:?}");
    }
}

#[test]
fn a_batch_of_unknown_magic_is_passed_over() {
    let lie = StatedInBatch { magic: Some(-1), ..StatedInBatch::default() };
    let liar = BatchBuilder { stated: lie, ..BatchBuilder::default() };
    let mut field = field(&liar, &StatedInRecord::default());
    let start = field.len();
    BatchBuilder::default().encode([NewRecord::of(b"v")], &mut Scratch::new(), &mut field);
    let read: Vec<_> = BatchIter::new(&field).collect();
    assert!(read[0].is_err());
    let batch = read[1].as_ref().unwrap();
    assert_eq!((batch.index, batch.byte_range()), (1, start..field.len()));
}

#[test]
fn headers_are_decoded_only_whole() {
    let field = field(&BatchBuilder::default(), &StatedInRecord::default());
    assert!(BatchHeader::decode(&field[..61]).is_some());
    assert!((0..61).all(|end| BatchHeader::decode(&field[..end]).is_none()));
}
