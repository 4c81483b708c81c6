//! Typed requests over a connection: structs of the `kafka-protocol` crate for what we send, and
//! for answers once the schema walker has passed their bytes.
//!
//! Never: lets that crate see bytes the walker has not visited (it allocates by declared counts).

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Request};
use kafka_wire::schema::{self, Direction};
use kafka_wire::{ApiKey, DecodeError, DecodeErrorKind};

use super::connection::{Connection, Fate, Frame, Pending, Response, Rubbish};

/// Encodes a request at a version.
///
/// # Errors
/// [`Fate::NotSent`] where the version cannot express what the request holds.
pub fn encode<R: Request>(request: &R, api_version: i16) -> Result<Frame, Fate> {
    let mut body = BytesMut::new();
    let api_key = ApiKey(R::KEY);
    request.encode(&mut body, api_version).map_err(|error| Fate::NotSent {
        why: format!("{api_key} v{api_version} cannot be encoded: {error}"),
    })?;
    Ok(Frame { api_key, api_version, body: body.freeze(), answered: true })
}

/// Decodes the answer to a request of that type and version.
///
/// # Errors
/// Where the bytes do not decode, not wholly, or to more memory than is allowed (W2).
pub fn decode<R: Request>(body: Bytes, api_version: i16) -> Result<R::Response, DecodeError> {
    decode_message::<R::Response>(ApiKey(R::KEY), Direction::Response, body, api_version)
}

/// Decodes any body the walker passes.
///
/// # Errors
/// Where the walker stops, or the crate refuses what the walker passed.
pub fn decode_message<M: Decodable>(
    api_key: ApiKey,
    kind: Direction,
    mut body: Bytes,
    api_version: i16,
) -> Result<M, DecodeError> {
    schema::guard(api_key, api_version, kind, &body)?;
    let length = body.len();
    M::decode(&mut body, api_version).map_err(|_| DecodeError {
        byte_offset: length - body.len(),
        path: api_key.name().unwrap_or_default().to_owned(),
        kind: DecodeErrorKind::Invalid("refused by the typed decoder"),
    })
}

impl Connection {
    /// Sends a typed request and returns at once.
    ///
    /// # Errors
    /// [`Fate::NotSent`].
    pub async fn send_typed<R: Request>(
        &self,
        request: &R,
        api_version: i16,
    ) -> Result<Pending, Fate> {
        self.send(encode(request, api_version)?).await
    }

    /// Sends a typed request and waits for its answer.
    ///
    /// # Errors
    /// What became of it where no answer that decodes came.
    pub async fn call<R: Request>(
        &self,
        request: &R,
        api_version: i16,
    ) -> Result<R::Response, Fate> {
        let response = self.send_typed(request, api_version).await?.answer().await?;
        typed_answer::<R>(response, api_version)
    }
}

/// Decodes an awaited answer.
///
/// # Errors
/// [`Fate::Broken`] where it does not decode.
pub fn typed_answer<R: Request>(response: Response, api_version: i16) -> Result<R::Response, Fate> {
    decode::<R>(response.body, api_version).map_err(|error| Fate::Broken(Rubbish::Body(error)))
}
