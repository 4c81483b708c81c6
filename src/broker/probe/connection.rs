//! Turns a question's bytes into the bytes of its answer, one at a time over TCP.

use kafka_wire::ApiKey;
use kafka_wire::correlator::{Correlator, Paired};
use kafka_wire::frame::{Scan, scan};
use kafka_wire::header::{RequestHeader, decode_response_header};
use kafka_wire::ids::CorrelationId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::NotYet;
use crate::broker::Node;

/// Largest answer taken: the Metadata of a probe lists brokers alone.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlator: Correlator<()>,
    correlation_id: i32,
}

impl Connection {
    /// Connects to a node.
    ///
    /// # Errors
    /// Where nobody listens.
    pub async fn open(node: &Node) -> Result<Self, NotYet> {
        let stream = TcpStream::connect((node.host.as_str(), node.port))
            .await
            .map_err(|source| NotYet::Unreachable { node: node.to_string(), source })?;
        // Questions are small, and each waits for its answer.
        let _ = stream.set_nodelay(true);
        Ok(Self { stream, correlator: Correlator::new(), correlation_id: 0 })
    }

    /// Asks one question; returns the frame of the answer and where its body begins.
    pub(crate) async fn ask(
        &mut self,
        api_key: ApiKey,
        api_version: i16,
        body: &[u8],
    ) -> Result<(Vec<u8>, usize), NotYet> {
        self.correlation_id += 1;
        let correlation_id = CorrelationId(self.correlation_id);
        let client_id = Some(b"fencepost-probe".as_slice());
        let mut request = vec![0; 4];
        RequestHeader { api_key, api_version, correlation_id, client_id }.encode(&mut request);
        request.extend_from_slice(body);
        let length = u32::try_from(request.len() - 4).expect("a question fits in a frame");
        request[..4].copy_from_slice(&length.to_be_bytes());
        self.correlator.request(correlation_id, ());

        let broken = |source| NotYet::Broken { api_key, source };
        self.stream.write_all(&request).await.map_err(broken)?;
        let frame = self.read_frame(api_key).await?;
        let rubbish = |error| NotYet::Rubbish { api_key, error };
        let (answered, start) =
            decode_response_header(&frame, api_key, api_version).map_err(rubbish)?;
        match self.correlator.response(answered) {
            Paired::Next(()) => Ok((frame, start)),
            Paired::Skipped { .. } | Paired::Unpaired => Err(NotYet::Unpaired { api_key }),
        }
    }

    async fn read_frame(&mut self, api_key: ApiKey) -> Result<Vec<u8>, NotYet> {
        let broken = |source| NotYet::Broken { api_key, source };
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).await.map_err(broken)?;
        let length = match scan(&prefix, ANSWER_BYTES_MAX) {
            Scan::Frame { end } | Scan::Incomplete { needed: end } => end - prefix.len(),
            Scan::BadLength(length) => return Err(NotYet::BadLength { api_key, length }),
        };
        let mut frame = Vec::new(); // Grows as bytes arrive, not by the length's word.
        (&mut self.stream).take(length as u64).read_to_end(&mut frame).await.map_err(broken)?;
        if frame.len() < length {
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(frame)
    }
}
