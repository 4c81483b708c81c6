//! Message sets of magic 0 and 1: plain, wrapped, and wrongly wrapped.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write;

use expect_test::{Expect, expect};
use kafka_wire::batch::{BatchIter, Compression, Scratch};

/// One message, its CRC right.
fn message(magic: u8, attributes: u8, offset: i64, value: Option<&[u8]>) -> Vec<u8> {
    let mut behind_crc = vec![magic, attributes];
    if magic == 1 {
        behind_crc.extend((1000 + offset).to_be_bytes());
    }
    behind_crc.extend(1i32.to_be_bytes());
    behind_crc.push(b'k');
    behind_crc.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
    behind_crc.extend(value.unwrap_or_default());
    let mut crc = flate2::Crc::new();
    crc.update(&behind_crc);
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((4 + behind_crc.len() as u32).to_be_bytes());
    message.extend(crc.sum().to_be_bytes());
    message.extend(behind_crc);
    message
}

fn wrapped(magic: u8, codec: Compression, offset: i64, inside: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    Scratch::new().compress(codec, inside, &mut packed);
    message(magic, codec.bits() as u8, offset, Some(&packed))
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A line a record, a line a fault.
fn told(field: &[u8]) -> String {
    let mut scratch = Scratch::new();
    let mut told = String::new();
    for batch in BatchIter::new(field).map(Result::unwrap) {
        let faults = batch.check(&mut scratch);
        for record in batch.records(&mut scratch) {
            let (key, value) = (text(record.key), text(record.value));
            writeln!(told, "{} @{} {key}={value}", record.offset, record.timestamp).unwrap();
        }
        faults.iter().for_each(|fault| writeln!(told, "{fault}").unwrap());
    }
    told
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as expect! makes it")]
fn check(field: &[u8], expected: Expect) {
    expected.assert_eq(&told(field));
}

#[test]
fn plain_messages_are_records() {
    let field =
        [message(0, 0, 7, Some(b"a")), message(1, 0, 8, None), message(1, 0x08, 9, Some(b""))];
    check(
        &field.concat(),
        expect![[r#"
            7 @-1 k=a
            8 @1008 k=null
            9 @1009 k=
        "#]],
    );
}

#[test]
fn wrapped_messages_have_absolute_offsets_in_magic_0_and_relative_ones_in_magic_1() {
    let inside = |magic, first: i64| -> Vec<u8> {
        (0..3).flat_map(|i| message(magic, 0, first + i, Some(b"v"))).collect()
    };
    let told_of = |codec| {
        let field =
            [wrapped(0, codec, 12, &inside(0, 10)), wrapped(1, codec, 22, &inside(1, 0))].concat();
        told(&field)
    };
    let gzip = told_of(Compression::Gzip);
    expect![[r#"
        10 @-1 k=v
        11 @-1 k=v
        12 @-1 k=v
        20 @1000 k=v
        21 @1001 k=v
        22 @1002 k=v
    "#]]
    .assert_eq(&gzip);
    assert_eq!(told_of(Compression::Snappy), gzip);
    assert_eq!(told_of(Compression::Lz4), gzip);
}

#[test]
fn what_is_wrong_with_messages_is_told() {
    let mut bad_crc = message(1, 0, 0, Some(b"v"));
    *bad_crc.last_mut().unwrap() ^= 1;
    let mut trailing = message(0, 0, 0, Some(b"v"));
    trailing[26] = 0;
    let cases = [
        ("a wrong CRC", bad_crc.clone()),
        ("reserved bits", message(1, 0x10, 0, Some(b"v"))),
        ("a value shorter than the message", trailing),
        ("a wrapper without a value", message(1, 1, 0, None)),
        ("a wrapper of rubbish", message(1, 1, 0, Some(b"rubbish"))),
        ("a wrong CRC inside", wrapped(1, Compression::Gzip, 0, &bad_crc)),
        (
            "a wrapper in a wrapper",
            wrapped(1, Compression::Gzip, 0, &wrapped(1, Compression::Gzip, 0, &[])),
        ),
        ("a cut message inside", wrapped(1, Compression::Lz4, 0, &message(1, 0, 0, None)[..20])),
    ];
    let mut table = String::new();
    for (case, field) in cases {
        let lines = told(&field).lines().map(|line| format!("    {line}\n")).collect::<String>();
        write!(table, "{case}\n{lines}").unwrap();
    }
    expect![[r#"
        a wrong CRC
            0 @1000 k=w
            checksum e4e321bc stored, 93e4112a computed at byte 12 (batches[0].crc)
        reserved bits
            0 @1000 k=v
            reserved bits are set at byte 17 (batches[0].attributes)
        a value shorter than the message
            0 @-1 k=
            checksum 1fecd70a stored, 06f7e64b computed at byte 12 (batches[0].crc)
            1 bytes left over at byte 27 (batches[0].records[0])
        a wrapper without a value
            null in a field that is never null at byte 26 (batches[0].value)
        a wrapper of rubbish
            compressed data: not whole or not gzip at byte 26 (batches[0].records)
        a wrong CRC inside
            0 @1000 k=w
            checksum e4e321bc stored, 93e4112a computed at byte 12 (batches[0].decompressed.records[0].crc)
        a wrapper in a wrapper
            batch or compressed message in a message at byte 0 (batches[0].decompressed.records[0])
        a cut message inside
            truncated: 35 bytes needed, 20 there at byte 0 (batches[0].decompressed.records[0])
    "#]].assert_eq(&table);
}

#[test]
fn a_message_is_one_record_and_a_wrapper_does_not_say() {
    let plain = message(1, 0, 5, Some(b"v"));
    let packed = wrapped(1, Compression::Gzip, 5, &plain);
    let header = |field: &[u8]| BatchIter::new(field).next().unwrap().unwrap().header;
    assert_eq!(header(&plain).record_count, 1);
    assert_eq!(header(&packed).record_count, -1);
    assert_eq!(header(&plain).max_timestamp, 1005);
    assert!(!header(&message(0, 0x30, 5, None)).is_control());
}

/// Written by kafka-clients 3.9.1 (`MemoryRecords.builder`), base offset 500, three records. Its
/// LZ4 frame of magic 0 has the header checksum of KAFKA-3160.
#[test]
fn message_sets_of_the_java_client_are_read() {
    let lz4_magic_0 = "00000000000001f60000006ac43d3c980003ffffffff0000005c04224d1860401a4d0000\
        0011000100f10701f4000000103b986b540000ffffffff0000000276301b00b10001f50000001257e7496e10\
        0031026b311e00000600001e0010f61e0041ff0602490f0090026b3200000002763200000000";
    let snappy_magic_1 = "00000000000001f60000007d218a7e69010200000000000003eaffffffff0000006782\
        534e415050590000000001000000010000005370000019011418c0979de2010d102c03e8ffffffff00000002\
        76300d13011b101a6c3035f3010901010403e90120046b31010600760106010120020000001a791b121a1526\
        30ea000000026b32000000027632";
    let bytes = |hex: &str| -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    check(
        &[bytes(lz4_magic_0), bytes(snappy_magic_1)].concat(),
        expect![[r#"
            500 @-1 null=v0
            501 @-1 k1=v1
            502 @-1 k2=v2
            500 @1000 null=v0
            501 @1001 k1=v1
            502 @1002 k2=v2
        "#]],
    );
}
