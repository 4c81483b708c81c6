//! Any bytes as the records field of a Produce request or Fetch response.

#![no_main]

use kafka_wire::batch::{BatchIter, ControlRecord, EndTxnMarker, Scratch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What a record claims is bounded by this, not by what the batch says.
    let mut scratch = Scratch::with_limit(1 << 20);
    let mut batches = BatchIter::new(bytes);
    for batch in batches.by_ref().flatten() {
        let _ = batch.check_crc();
        let mut records = batch.records(&mut scratch);
        for record in records.by_ref() {
            let _ = record.key.map(ControlRecord::decode);
            let _ = record.value.map(EndTxnMarker::decode);
            assert!(record.headers.into_iter().count() <= bytes.len() + (1 << 20));
        }
        let _ = batch.check(&mut scratch);
    }
    assert!(batches.remainder().len() <= bytes.len());
});
