//! Connections whose clients take an answer too slowly end: each holds memory, a file and a descriptor.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How fast a client must take what is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes a second at least, on average over [`Pace::window`].
    pub(super) least_rate: u64,
    /// How long the server waits for the client before it looks at the average. Time in which there is nothing to send
    /// does not count.
    pub(super) window: Duration,
}

/// A connection that fails with [`io::ErrorKind::TimedOut`] when its client is too slow.
///
/// What the system takes counts as taken by the client. Where its send buffer is large (4 MiB at most by Linux's
/// defaults, and only after the connection was fast), it takes nothing until a third of it is free.
#[derive(Debug)]
pub(super) struct PacedStream {
    stream: TcpStream,
    pace: Pace,
    /// Bytes that were taken in this window.
    taken: u64,
    /// How long the client was waited for in this window, before `waits_since`.
    waited: Duration,
    waits_since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl PacedStream {
    pub(super) fn new(stream: TcpStream, pace: Pace) -> Self {
        let alarm = Box::pin(sleep(pace.window));
        Self { stream, pace, taken: 0, waited: Duration::ZERO, waits_since: None, alarm }
    }

    /// What came of writing, and an error where the client is too slow. Looks at the clock only when the client has to
    /// be waited for.
    fn paced(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.taken += bytes as u64;
                if let Some(since) = self.waits_since.take() {
                    self.waited += since.elapsed();
                    if self.waited >= self.pace.window {
                        self.next_window()?;
                    }
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.waits_since.is_none() {
                    let now = Instant::now();
                    self.waits_since = Some(now);
                    self.alarm.as_mut().reset(now + self.pace.window.saturating_sub(self.waited));
                }
                while self.alarm.as_mut().poll(context).is_ready() {
                    self.next_window()?;
                    let now = Instant::now();
                    self.waits_since = Some(now);
                    self.alarm.as_mut().reset(now + self.pace.window);
                }
                Poll::Pending
            }
        }
    }

    /// The window is over: was the client fast enough?
    fn next_window(&mut self) -> io::Result<()> {
        let least = self.pace.least_rate.saturating_mul(self.pace.window.as_secs()).max(1);
        if std::mem::take(&mut self.taken) < least {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.waited = Duration::ZERO;
        Ok(())
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.paced(context, written)
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
