//! Reads the HTTP/2 connection preface (RFC 9113, section 3.4) before hyper allocates anything for the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The first bytes that every HTTP/2 client sends.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The response to an HTTP/1 client.
const NOT_HERE: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 37\r\n\r\nthis port speaks gRPC, over HTTP/2.\r\n";

/// A stream whose preface was checked, and is replayed to the next reader.
pub(super) struct Prefaced<S> {
    inner: S,
    /// How many bytes of the preface were replayed.
    given: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Prefaced<S> {
    /// Reads the preface, and fails at the first byte that differs.
    ///
    /// # Errors
    /// If the stream ends or fails, or with `InvalidData` if it does not begin with the preface.
    pub async fn read(mut inner: S) -> io::Result<Prefaced<S>> {
        let (mut bytes, mut read) = ([0; PREFACE.len()], 0);
        while read < PREFACE.len() {
            match inner.read(&mut bytes[read..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
            if !PREFACE.starts_with(&bytes[..read]) {
                if bytes[0].is_ascii_uppercase() {
                    // A failure to deliver the hint does not matter: the connection is closed anyway.
                    let _ = inner.write_all(NOT_HERE).await;
                    let _ = inner.shutdown().await;
                }
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
            }
        }
        Ok(Prefaced { inner, given: 0 })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &PREFACE[self.given..];
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let some = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..some]);
        self.given += some;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
