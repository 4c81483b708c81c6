//! A real broker's answers, each version of each API it serves, against the table.
//!
//! On where `FENCEPOST_LIVE` is set and `FENCEPOST_BOOTSTRAP` names a plaintext listener.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_wire::ApiKey;
use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::ids::CorrelationId;
use kafka_wire::schema::{self, Direction, FieldId, FieldKind, Fields, Layout, Limits, Value};

fn exchange(address: &str, layout: &Layout, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (api_key, api_version) = (layout.message().api_key().unwrap(), layout.version());
    let correlation_id = CorrelationId(7);
    let mut frame = vec![0; 4];
    RequestHeader { api_key, api_version, correlation_id, client_id: Some(b"fencepost") }
        .encode(&mut frame);
    frame.extend_from_slice(body);
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    let (id, at) = decode_response_header(&frame, api_key, api_version).unwrap();
    assert_eq!(id, correlation_id);
    Ok(frame.split_off(at))
}

/// A request of defaults, each array of structs with one struct of defaults, so that the answer
/// has elements, too.
fn one_of_each(layout: &Layout, mut fields: Fields, ids: Vec<FieldId>) -> Fields {
    for id in ids {
        let field = layout.field(id);
        if field.is_array() && field.kind() == FieldKind::Struct && field.tag().is_none() {
            let children: Vec<_> = layout.children(id).map(|(id, _)| id).collect();
            let element = one_of_each(layout, Fields::new(), children);
            fields.set(field.name(), vec![element]);
        }
    }
    fields
}

fn requests(layout: &Layout) -> Vec<Fields> {
    let mut base = Fields::new();
    if layout.message().api_key() == Some(ApiKey::PRODUCE) {
        base.set("acks", -1); // Without acknowledgement there is no answer to look at.
    }
    let ids = layout.fields().map(|(id, _)| id).collect();
    vec![base.clone(), one_of_each(layout, base, ids)]
}

#[test]
fn every_answer_of_a_real_broker_is_understood_wholly() {
    if std::env::var_os("FENCEPOST_LIVE").is_none() {
        return;
    }
    let Ok(address) = std::env::var("FENCEPOST_BOOTSTRAP") else { return };
    let ask = schema::layout(ApiKey::API_VERSIONS, Direction::Request, 0).unwrap();
    let answer = schema::layout(ApiKey::API_VERSIONS, Direction::Response, 0).unwrap();
    let body = exchange(&address, ask, &[]).unwrap();
    let served = answer.decode(&body, Limits::default()).fields;
    let (mut understood, mut closed) = (0, BTreeMap::<String, Vec<i16>>::new());
    for api in served.field("api_keys").and_then(Value::as_array).unwrap() {
        let number = |name: &str| api.as_struct().unwrap().field(name).unwrap().as_int().unwrap();
        let key = ApiKey(number("api_key") as i16);
        for version in number("min_version") as i16..=number("max_version") as i16 {
            let request = schema::layout(key, Direction::Request, version)
                .unwrap_or_else(|| panic!("{key} v{version} is served but not in the table"));
            let response = schema::layout(key, Direction::Response, version).unwrap();
            for fields in requests(request) {
                let body = request.encode(&fields).unwrap();
                match exchange(&address, request, &body) {
                    Ok(body) => {
                        let whole = response.guard(&body, Limits::default());
                        assert_eq!(whole, Ok(()), "{key} v{version}: {body:02x?}");
                        understood += 1;
                    }
                    Err(_) => closed.entry(key.to_string()).or_default().push(version),
                }
            }
        }
    }
    println!("{understood} answers understood; no answer to {closed:?}");
    assert!(understood > 300);
}
