//! The control's listener: HTTP/1.1 on an address of the caller's choice.
//!
//! Bodies, connections and the time a head may take are bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::api::{self, Reply};
use crate::proxy::Total;
use crate::proxy::rule::Board;

/// Bytes a body may have.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Connections served at a time; more wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a head may take, and a connection rest between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is controlled.
#[derive(Clone)]
pub struct Control {
    /// Its rules.
    pub board: Arc<Board>,
    /// What went through so far.
    pub total: Arc<dyn Fn() -> Total + Send + Sync>,
}

/// Serves the control until the future is dropped, and its connections with it.
pub async fn serve(listener: TcpListener, control: Control) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, control.clone()))),
                // Out of descriptors, most likely: not for ever.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, control: Control) {
    let service = service_fn(move |request| {
        let control = control.clone();
        async move { Ok::<_, Infallible>(response(reply(request, &control).await)) }
    });
    let conversation = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that speaks no HTTP or goes away harms nobody else.
    drop(conversation.await);
}

async fn reply(request: Request<Incoming>, control: &Control) -> Reply {
    // Browsers name the page that asks; rules are no business of web pages.
    if request.headers().contains_key(ORIGIN) {
        return Reply::refused(403, "requests of web pages are not answered");
    }
    let (head, body) = request.into_parts();
    let too_large = || Reply::refused(413, &format!("a body has at most {BODY_BYTES_MAX} bytes"));
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return too_large();
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return too_large(),
        Err(_) => return Reply::refused(408, "the body took too long"),
    };
    let total = (control.total)();
    api::answer(&control.board, total, head.method.as_str(), head.uri.path(), &body)
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::rule::Rules;
    use crate::world::Chance;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The reply to the bytes of one request, up to the end of the connection.
    async fn say(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let board = Arc::new(Board::new(Rules::new(Chance::from_seed(1))));
        let control = Control { board, total: Arc::new(Total::default) };
        let talk = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // A body that is refused need not be taken whole.
            drop(stream.write_all(request).await);
            let mut reply = Vec::new();
            drop(stream.read_to_end(&mut reply).await);
            String::from_utf8_lossy(&reply).into_owned()
        };
        tokio::select! {
            () = serve(listener, control) => unreachable!("it serves until it is dropped"),
            reply = talk => reply,
        }
    }

    #[tokio::test]
    async fn a_rule_is_added_over_http() {
        let reply = say(b"POST /rules HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                          Content-Length: 18\r\n\r\nhold EndTxn for=5s")
        .await;
        assert!(reply.starts_with("HTTP/1.1 201"), "{reply}");
        assert!(reply.contains("content-type: application/json"), "{reply}");
        assert!(reply.ends_with("}\n") && reply.contains("\"name\":\"rule-1\""), "{reply}");
    }

    #[tokio::test]
    async fn web_pages_large_bodies_and_rubbish_are_refused() {
        let page =
            b"GET /rules HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nConnection: close\r\n\r\n";
        assert!(say(page).await.starts_with("HTTP/1.1 403"));
        let large = b"POST /rules HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n";
        assert!(say(large).await.starts_with("HTTP/1.1 413"));
        let rubbish = say(b"\0\0\0\x10\0\x12\0\x03\r\n\r\n").await;
        assert!(rubbish.is_empty() || rubbish.starts_with("HTTP/1.1 400"), "{rubbish}");
    }
}
