//! Any bytes as a body: the first three say of which API, direction and version.

#![no_main]

use kafka_wire::ApiKey;
use kafka_wire::schema::{self, Direction, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [key, version, body @ ..] = bytes else { return };
    let direction = if key & 0x80 == 0 { Direction::Request } else { Direction::Response };
    let key = ApiKey(i16::from(key & 0x7f));
    let Some(layout) = schema::layout(key, direction, i16::from(*version % 20)) else { return };

    let decoded = layout.decode(body, Limits { decoded_bytes_max: 16 << 20 });
    if decoded.exact && decoded.walked.left_over == 0 {
        // What was read whole and in the usual form is written as it was.
        let written = layout.encode(&decoded.fields).expect("what was decoded can be encoded");
        assert_eq!(written, body);
    }
    let guarded = layout.guard(body, Limits::default());
    let mut json = String::new();
    let walked = layout.write_json(body, &mut json, |out, _| {
        out.push_str("[]");
        Ok(())
    });
    let walked = walked.expect("memory takes all text");
    // The guard is the strictest of the readers.
    assert!(guarded.is_err() || walked.complete().is_ok());
});
