//! Closes a connection without a reset, so that a peer that is still sending can read the last responses.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the peer may take to close its side.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose shutdown completes when the peer has closed its side too, or after [`LINGER`]. Closing a socket with
/// unread bytes resets the connection, and the peer may then lose the last responses (RFC 9112, section 9.6). Bytes
/// that arrive in the meantime are discarded.
pub(super) struct Lingering<S> {
    inner: S,
    /// Set once this side is closed.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub fn new(inner: S) -> Lingering<S> {
        Lingering { inner, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
        }
        let end = this.end.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let (mut bytes, mut more) = ([0; 1024], true);
        while more && end.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut this.inner).poll_read(context, &mut buffer));
            // A read error ends the wait like end of stream.
            more = read.is_ok() && !buffer.filled().is_empty();
        }
        Poll::Ready(Ok(()))
    }
}
