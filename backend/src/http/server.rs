//! Serving connections, none of them for longer than its client is worth.
//!
//! - A request's head must be there in time, also the first one of a connection that is idle; so idle connections end.
//! - What comes with a request is read within limits of its own (`content`).
//! - An answer must be taken at a least rate (`pace`).
//! - Nobody has more than so many connections (`crowd`).

use super::{
    crowd::{CountedConnection, Crowd},
    pace::{Pace, PacedStream},
};
use crate::{config::ClientArgs, process::descriptors, waiting::Client};
use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use firn_shared::oci::{
    endpoint::Method,
    error::{ErrorCode, OciError},
    respond,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Service;

/// How long to wait when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// After how many seconds a client with too many connections is to come back.
const COME_BACK: u32 = 5;
/// How many clients at once are told that they have too many connections, and for how long each is listened to.
const REFUSALS: usize = 32;
const REFUSING: Duration = Duration::from_secs(1);
/// A connection takes two descriptors while a blob is sent on it, and Firn needs others.
const DESCRIPTORS_EACH: u64 = 3;

/// Serves until `stop` returns, and then until all requests that are under way are answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    clients: &ClientArgs,
    stop: impl Future<Output = ()>,
) {
    let window = Duration::from_secs(clients.client_timeout);
    let pace = Pace { least_rate: clients.least_rate, window };
    let all = usize::try_from(descriptors::limit() / DESCRIPTORS_EACH).unwrap_or(usize::MAX);
    let each = usize::try_from(clients.client_connections).unwrap_or(usize::MAX);
    let crowd = Crowd::new(all, each);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(window);
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let Some(counted) = crowd.enter(Client::at(peer.ip())) else {
            tracing::debug!(%peer, "too many connections");
            // The others learn nothing but that they are not wanted.
            if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    // It may not listen.
                    let _ = tokio::time::timeout(REFUSING, refuse(stream)).await;
                    drop(permit);
                });
            }
            continue;
        };
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert::<CountedConnection>(counted.clone());
            router.clone().call(request)
        });
        let connection = http.serve_connection(TokioIo::new(PacedStream::new(stream, pace)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // That a client goes away, or is too slow, is no matter.
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection, whatever happens to others.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // It has gone again.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Tells the client why.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let error = OciError::new(
        ErrorCode::Toomanyrequests,
        "there are too many connections from this address; close some, or come back later",
    )
    .retry_after(COME_BACK);
    let response = respond::error(Method::Get, &error);
    let mut head = format!("HTTP/1.1 {} Too Many Requests\r\nconnection: close\r\n", response.status);
    for (name, value) in response.headers() {
        head += &format!("{name}: {value}\r\n");
    }
    let bytes = [(head + "\r\n").as_bytes(), &error.body()].concat();
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    // To close a connection with unread bytes takes back what was written to it.
    let mut part = [0; 1024];
    while stream.read(&mut part).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use futures::future::join_all;
    use std::convert::Infallible;

    /// Longer than a busy machine keeps a client from saying what it is about to say.
    const TIMEOUT: u64 = 2;

    /// A client of a server with these limits, which has bodies that never end.
    async fn connection(clients: ClientArgs) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let endless =
            || async { Body::from_stream(futures::stream::repeat(Ok::<_, Infallible>(vec![7; 1 << 16]))) };
        let router = Router::new().route("/", get(|| async { "here" })).route("/endless", get(endless));
        tokio::spawn(async move { serve(listener, router, &clients, std::future::pending()).await });
        TcpStream::connect(address).await.expect("a connection")
    }

    fn limits(least_rate: u64) -> ClientArgs {
        ClientArgs { client_timeout: TIMEOUT, least_rate, client_connections: 10 }
    }

    /// Everything until the other side ends the connection, which it may do by a reset.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed() {
        // Also for who has said something before.
        let words = ["", "GET / HTTP/1.1\r\nHost: x\r\nA-head", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"];
        let answers = words.map(async |words| {
            let mut stream = connection(limits(1)).await;
            stream.write_all(words.as_bytes()).await.expect("sent");
            rest(stream).await
        });
        let [nothing, part, whole] = &join_all(answers).await[..] else { unreachable!("three") };
        assert_eq!(nothing, "");
        assert!(!part.contains("200 OK"), "{part}");
        assert!(whole.ends_with("here"), "{whole}");
    }

    #[tokio::test]
    async fn a_request_that_arrives_too_slowly_is_cut_off() {
        let mut stream = connection(limits(1)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nA-head: ").await.expect("sent");
        // Something moves all the time. Sending fails when the other side has given up.
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_too_slowly_is_cut_off() {
        let mut stream = connection(limits(u64::MAX)).await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut part = [0; 1 << 16];
        // The reset of the other side comes after all that the system has taken.
        while stream.read(&mut part).await.is_ok_and(|size| size > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_fast_enough_is_served() {
        let mut stream = connection(limits(1)).await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let started = tokio::time::Instant::now();
        let mut part = [0; 1 << 16];
        while started.elapsed() < Duration::from_secs(2 * TIMEOUT) {
            assert!(stream.read(&mut part).await.expect("it goes on") > 0);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
