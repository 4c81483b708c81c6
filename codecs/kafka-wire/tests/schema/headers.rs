//! Headers of requests and responses, whose versions the table decides.

use kafka_wire::header::{RequestHeader, decode_response_header, encode_response_header};
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema;
use kafka_wire::{ApiKey, DecodeErrorKind};

#[test]
fn headers_of_every_api_and_version_round_trip() {
    for &api_key in ApiKey::ALL {
        for api_version in schema::versions(api_key).unwrap() {
            for client_id in [None, Some(&b""[..]), Some(b"fencepost")] {
                let correlation_id = CorrelationId(7);
                let mut header = RequestHeader { api_key, api_version, correlation_id, client_id };
                let mut bytes = Vec::new();
                header.encode(&mut bytes);
                let length = bytes.len();
                bytes.extend_from_slice(b"body");
                if schema::request_header_version(api_key, api_version) == Some(0) {
                    header.client_id = None;
                }
                assert_eq!(RequestHeader::decode(&bytes), Ok((header, length)));

                let mut bytes = Vec::new();
                encode_response_header(&mut bytes, api_key, api_version, correlation_id);
                let length = bytes.len();
                bytes.extend_from_slice(b"body");
                let decoded = decode_response_header(&bytes, api_key, api_version);
                assert_eq!(decoded, Ok((correlation_id, length)));
            }
        }
    }
}

#[test]
fn the_header_of_an_api_versions_request_of_any_version_is_read() {
    // Version 127, client id "c", no tagged fields.
    let frame = [0, 18, 0, 127, 0, 0, 0, 1, 0, 1, b'c', 0, 0xff];
    let (header, length) = RequestHeader::decode(&frame).unwrap();
    assert_eq!((header.client_id, length), (Some(&b"c"[..]), 12));
}

#[test]
fn tagged_fields_of_headers_are_passed_over() {
    let frame = [0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 2, 0, 1, b'x', 5, 0, b'b'];
    let (header, length) = RequestHeader::decode(&frame).unwrap();
    assert_eq!((header.client_id, length), (None, 16));
    let frame = [0, 0, 0, 1, 1, 9, 2, b'x', b'y', b'b'];
    let decoded = decode_response_header(&frame, ApiKey::FETCH, 12);
    assert_eq!(decoded, Ok((CorrelationId(1), 9)));
}

#[test]
fn impossible_headers_are_errors_that_say_where() {
    let check = |frame: &[u8], byte_offset: usize, kind: DecodeErrorKind| {
        let error = RequestHeader::decode(frame).unwrap_err();
        assert_eq!((error.byte_offset, error.kind), (byte_offset, kind), "{frame:?}");
    };
    let truncated = |needed, available| DecodeErrorKind::Truncated { needed, available };
    check(&[0, 3], 0, truncated(8, 2));
    check(&[0, 3, 0, 0, 0, 0, 0, 1, 0], 8, truncated(2, 1));
    check(&[0, 3, 0, 0, 0, 0, 0, 1, 0, 3, b'a'], 10, truncated(3, 1));
    check(&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xfe], 8, DecodeErrorKind::NegativeLength(-2));
    let flexible = [0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff];
    check(&[&flexible[..], &[0x80; 6]].concat(), 10, DecodeErrorKind::VarintTooLong);
    check(&[&flexible[..], &[1, 0, 0x7f, 0]].concat(), 13, truncated(127, 1));
    // Four thousand million tagged fields in no bytes.
    check(&[&flexible[..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat(), 15, truncated(1, 0));
}
