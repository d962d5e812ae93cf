//! Connections end when nothing moves on them: who opens them and says nothing, or stops reading, would else keep
//! them, and with enough of them everybody else out.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

/// A listener whose connections end when no byte has moved on them for so long, or up to twice that.
#[derive(Debug)]
pub struct IdleListener {
    listener: TcpListener,
    limit: Duration,
}

impl IdleListener {
    /// The connections of a listener, with this limit. It must be longer than any request waits for its answer.
    pub fn new(listener: TcpListener, limit: Duration) -> Self {
        Self { listener, limit }
    }
}

impl Listener for IdleListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let alarm = Box::pin(sleep(self.limit));
        (Connection { stream, limit: self.limit, has_moved: false, alarm, wakes: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it has been idle for too long: for the limit at least, and for twice that at most.
///
/// This is done for each read and write, so it looks at no clock and leaves the alarm alone: when that goes off, it is
/// set again if something has moved since.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    limit: Duration,
    /// Whether a byte has moved since the alarm was set.
    has_moved: bool,
    alarm: Pin<Box<Sleep>>,
    /// Whom the alarm wakes.
    wakes: Option<Waker>,
}

impl Connection {
    /// What came of reading or writing: an error, where that takes too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.has_moved = true;
            return moved;
        }
        let is_set = self.wakes.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if is_set && !self.alarm.is_elapsed() {
            return Poll::Pending;
        }
        while self.alarm.as_mut().poll(context).is_ready() {
            if !std::mem::take(&mut self.has_moved) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(Instant::now() + self.limit);
        }
        self.wakes = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watched(context, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, routing::get};
    use futures::future::join_all;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Longer than a busy machine keeps a client from saying what it is about to say.
    const LIMIT: Duration = Duration::from_secs(2);

    /// A server whose connections end after a moment, and whose bodies never do.
    async fn connection() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let endless =
            || async { Body::from_stream(futures::stream::repeat(Ok::<_, Infallible>(vec![7; 1 << 16]))) };
        let router = Router::new().route("/", get(|| async { "here" })).route("/endless", get(endless));
        let listener = IdleListener::new(listener, LIMIT);
        tokio::spawn(axum::serve(listener, router).into_future());
        TcpStream::connect(address).await.expect("a connection")
    }

    /// Everything until the other side ends the connection, which it may do by a reset.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn ends_for_who_says_nothing() {
        // Also for who has said something before.
        let words = ["", "GET / HTTP/1.1\r\nHost: x\r\nA-head", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"];
        let answers = words.map(async |words| {
            let mut stream = connection().await;
            stream.write_all(words.as_bytes()).await.expect("sent");
            rest(stream).await
        });
        let [nothing, part, whole] = &join_all(answers).await[..] else { unreachable!("three") };
        assert_eq!(nothing, "");
        assert!(!part.contains("200 OK"), "{part}");
        assert!(whole.ends_with("here"), "{whole}");
    }

    #[tokio::test]
    async fn ends_for_who_stops_reading() {
        let mut stream = connection().await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        // Nothing is read any more. What is sent fails when the other side has given up.
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
