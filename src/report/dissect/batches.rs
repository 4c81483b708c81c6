//! A records field as JSON: batches with every field of their headers, records inside.
//!
//! Never: stops at what is damaged, where something after it can be read.

use std::fmt::{self, Write};

use kafka_wire::batch::{
    Batch, BatchHeader, BatchIter, Compression, ControlRecord, ControlType, EndTxnMarker, Record,
    Scratch, TimestampType,
};
use kafka_wire::schema::write_json_bytes;
use kafka_wire::{DecodeError, DecodeErrorKind};

use super::bodies::Text;

/// Errors that are kept of one field.
const ERRORS_MAX: usize = 64;

/// Writes the batches of a field as an array. The last batch of a Fetch response may be cut off
/// (KIP-74), which `may_be_cut` says.
///
/// # Errors
/// Where the text becomes too long; what is wrong with the bytes goes to `errors`.
pub fn write_batches(
    out: &mut Text<'_>,
    field: &[u8],
    may_be_cut: bool,
    scratch: &mut Scratch,
    errors: &mut Vec<DecodeError>,
) -> fmt::Result {
    let mut batches = BatchIter::new(field);
    let mut comma = "[";
    let mut cut = false;
    for item in batches.by_ref() {
        match item {
            Ok(batch) => {
                out.write_str(comma)?;
                write_batch(out, &batch, scratch, errors)?;
                comma = ",";
            }
            Err(error) => {
                cut = may_be_cut && matches!(error.kind, DecodeErrorKind::Truncated { .. });
                if !cut {
                    note(errors, [error]);
                }
            }
        }
    }
    let rest = batches.remainder();
    if !rest.is_empty() {
        let name = if cut { "partial_batch" } else { "undecoded" };
        write!(out, "{comma}{{\"{name}_bytes\":{}}}", rest.len())?;
        comma = ",";
    }
    out.write_str(if comma == "[" { "[]" } else { "]" })
}

/// Keeps errors, so many of one field: a hostile one could hold millions.
fn note(errors: &mut Vec<DecodeError>, more: impl IntoIterator<Item = DecodeError>) {
    let room = ERRORS_MAX.saturating_sub(errors.len());
    errors.extend(more.into_iter().take(room));
}

fn write_batch(
    out: &mut Text<'_>,
    batch: &Batch<'_>,
    scratch: &mut Scratch,
    errors: &mut Vec<DecodeError>,
) -> fmt::Result {
    let crc = batch.check_crc();
    write_header(out, &batch.header, crc.is_ok())?;
    note(errors, crc.err());
    let is_control = batch.header.is_control();
    let mut records = batch.records(scratch);
    let mut comma = "";
    out.write_str(",\"records\":[")?;
    for record in records.by_ref() {
        out.write_str(comma)?;
        write_record(out, &record, is_control)?;
        comma = ",";
    }
    note(errors, records.errors().iter().cloned());
    out.write_str("]}")
}

/// The header; what magic 0 and 1 do not have is left out.
fn write_header(out: &mut Text<'_>, header: &BatchHeader, crc_ok: bool) -> fmt::Result {
    let BatchHeader { base_offset, batch_length, magic, crc, attributes, .. } = header;
    write!(out, "{{\"base_offset\":{},\"batch_length\":{batch_length}", base_offset.0)?;
    if *magic >= 2 {
        write!(out, ",\"partition_leader_epoch\":{}", header.partition_leader_epoch.0)?;
    }
    write!(out, ",\"magic\":{magic},\"crc\":{crc},\"crc_ok\":{crc_ok}")?;
    write!(out, ",\"attributes\":{}", attributes.0)?;
    write!(out, ",\"compression\":\"{}\"", compression_name(header.compression()))?;
    if *magic >= 1 {
        let by = match header.timestamp_type() {
            TimestampType::CreateTime => "create_time",
            TimestampType::LogAppendTime => "log_append_time",
        };
        write!(out, ",\"timestamp_type\":\"{by}\"")?;
    }
    if *magic < 2 {
        return Ok(());
    }
    write!(
        out,
        ",\"is_transactional\":{},\"is_control_batch\":{},\"has_delete_horizon\":{}",
        header.is_transactional(),
        header.is_control(),
        attributes.has_delete_horizon()
    )?;
    write!(
        out,
        ",\"last_offset_delta\":{},\"base_timestamp\":{},\"max_timestamp\":{}",
        header.last_offset_delta, header.base_timestamp, header.max_timestamp
    )?;
    write!(
        out,
        ",\"producer_id\":{},\"producer_epoch\":{},\"base_sequence\":{},\"records_count\":{}",
        header.producer_id.0, header.producer_epoch.0, header.base_sequence.0, header.record_count
    )
}

fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
        Compression::Unknown(_) => "unknown",
    }
}

fn write_record(out: &mut Text<'_>, record: &Record<'_>, is_control: bool) -> fmt::Result {
    write!(out, "{{\"offset\":{},\"timestamp\":{}", record.offset.0, record.timestamp)?;
    if is_control {
        out.write_str(",\"control\":")?;
        write_control(out, record)?;
    }
    out.write_str(",\"key\":")?;
    write_nullable(out, record.key)?;
    out.write_str(",\"value\":")?;
    write_nullable(out, record.value)?;
    out.write_str(",\"headers\":[")?;
    let mut comma = "";
    for header in record.headers {
        write!(out, "{comma}{{\"key\":")?;
        write_json_bytes(out, header.key)?;
        out.write_str(",\"value\":")?;
        write_nullable(out, header.value)?;
        out.write_char('}')?;
        comma = ",";
    }
    out.write_str("]}")
}

/// What a control record says: `{"type":"commit","version":0,"coordinator_epoch":3}`; null where
/// its key is none.
fn write_control(out: &mut Text<'_>, record: &Record<'_>) -> fmt::Result {
    let Some(Ok(control)) = record.key.map(ControlRecord::decode) else {
        return out.write_str("null");
    };
    let (name, is_marker) = match control.control_type {
        ControlType::Abort => ("abort", true),
        ControlType::Commit => ("commit", true),
        ControlType::Other(2) => ("leader_change", false),
        ControlType::Other(3) => ("snapshot_header", false),
        ControlType::Other(4) => ("snapshot_footer", false),
        ControlType::Other(5) => ("kraft_version", false),
        ControlType::Other(6) => ("kraft_voters", false),
        ControlType::Other(_) => ("unknown", false),
    };
    let (code, version) = (control.control_type.code(), control.version);
    write!(out, "{{\"type\":\"{name}\",\"code\":{code},\"version\":{version}")?;
    let marker = record.value.filter(|_| is_marker).map(EndTxnMarker::decode);
    if let Some(Ok(EndTxnMarker { coordinator_epoch, .. })) = marker {
        write!(out, ",\"coordinator_epoch\":{coordinator_epoch}")?;
    }
    out.write_char('}')
}

fn write_nullable(out: &mut Text<'_>, bytes: Option<&[u8]>) -> fmt::Result {
    match bytes {
        Some(bytes) => write_json_bytes(out, bytes),
        None => out.write_str("null"),
    }
}
