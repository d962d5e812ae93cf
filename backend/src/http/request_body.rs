//! What comes with a request is read before the answer goes out, though nothing here has a use for it: a server that
//! leaves it unread has to end the connection, and the client may lose the answer with it (RFC 9112, section 9.6), for
//! example that images cannot be pushed.

use axum::{
    body::{Body, HttpBody, to_bytes},
    http::{header, request::Parts},
};
use std::time::Duration;
use tokio::time::timeout;

/// How much is read, in bytes; after more than that the connection ends with the answer.
const LIMIT: usize = 64 << 10;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what comes with a request.
pub(super) async fn discard(request: &Parts, body: Body) {
    // Who waits to be told that it is wanted has not sent it, and keeps it when the answer is an error.
    let is_sent = !request.headers.contains_key(header::EXPECT);
    if is_sent && !body.is_end_stream() {
        // What is wrong with it changes nothing about the answer.
        let _ = timeout(PATIENCE, to_bytes(body, LIMIT)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{extract::Request, http::StatusCode, routing::any};
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let refuse = |request: Request| async {
            let (request, body) = request.into_parts();
            discard(&request, body).await;
            StatusCode::METHOD_NOT_ALLOWED
        };
        tokio::spawn(axum::serve(listener, any(refuse).into_make_service()).into_future());
        address
    }

    async fn connect(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("a connection")
    }

    /// What is answered on one connection to these pieces, of which each is sent when the server has had time for
    /// the ones before.
    async fn answers(pieces: &[&[u8]]) -> String {
        let address = server().await;
        let mut stream = connect(address).await;
        for piece in pieces {
            // It may have hung up.
            let _ = stream.write_all(piece).await;
            let mut other = connect(address).await;
            other.write_all(GET.as_bytes()).await.expect("sent");
            other.read_to_end(&mut Vec::new()).await.expect("answered");
        }
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn leaves_the_connection_fit_for_the_next_request() {
        let head = |header: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n");
        let (chunked, known, none) =
            (head("Transfer-Encoding: chunked"), head("Content-Length: 5"), head("Content-Length: 0"));
        let pieces = [&chunked, "0\r\n\r\n", &known, "he", "llo", &none, GET].map(str::as_bytes);
        assert_eq!(answers(&pieces).await.matches("HTTP/1.1 405").count(), 4);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_answered() {
        let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
        assert!(answers(&[head.as_bytes(), &[0; LIMIT + 1]]).await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test]
    async fn expect_continue_is_answered_without_the_body() {
        let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
        let mut stream = connect(server().await).await;
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.expect("answered");
        assert_eq!(&status, b"HTTP/1.1 405");
    }

    #[tokio::test]
    async fn a_body_that_never_arrives_does_not_delay_the_answer() {
        let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
        assert!(answers(&[head.as_bytes()]).await.starts_with("HTTP/1.1 405"));
    }
}
