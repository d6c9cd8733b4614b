//! Puts the SQLSTATE of an error in front of its text, on the way in from the server.
//!
//! An error is identified by its SQLSTATE: its text is in the language of `lc_messages`. diesel-async passes the text
//! on and drops the code, and does not expose the error of tokio-postgres. So the code is written into the text below
//! both, where the protocol is read: `ERROR: deadlock detected` arrives as `40P01: deadlock detected`.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The type of a message and its length.
const HEAD: usize = 5;
/// A longer error passes unchanged.
const LONGEST: usize = 64 << 10;
const READ_ONLY: &[u8] = b"25006";

/// The code and the text of an error that came through a [`Coded`].
pub(super) fn split(message: &str) -> Option<(&str, &str)> {
    let (code, text) = message.split_once(": ")?;
    let is_code =
        code.len() == 5 && code.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    is_code.then_some((code, text))
}

/// A stream of protocol messages whose errors have their code in their text.
pub(super) struct Coded<S> {
    stream: S,
    refused_write: Arc<AtomicBool>,
    /// Bytes left of a message that passes unchanged.
    passing: usize,
    /// An error, or the head of a message, that is not complete yet.
    held: BytesMut,
    /// The output that is read next.
    out: BytesMut,
}

impl<S> Coded<S> {
    /// `refused_write` becomes true when the server refuses to write.
    pub(super) fn new(stream: S, refused_write: Arc<AtomicBool>) -> Coded<S> {
        let (held, out) = (BytesMut::new(), BytesMut::new());
        Coded { stream, refused_write, passing: 0, held, out }
    }

    /// How many bytes at the front of `new` pass unchanged. The others are in `held` or in `out`.
    fn pass(&mut self, new: &[u8]) -> usize {
        let mut at = 0;
        while self.held.is_empty() {
            let passing = self.passing.min(new.len() - at);
            self.passing -= passing;
            at += passing;
            match new[at..] {
                [] => return at,
                [kind, a, b, c, d, ..] if kind != b'E' => self.passing = length([a, b, c, d]),
                _ => break,
            }
        }
        self.held.extend_from_slice(&new[at..]);
        while self.release() {}
        at
    }

    /// Moves a message, or the part of it that arrived, from `held` to `out`; false if there is none.
    fn release(&mut self) -> bool {
        let [kind, a, b, c, d, ..] = self.held[..] else { return false };
        let whole = length([a, b, c, d]);
        if kind != b'E' || whole > LONGEST {
            let part = self.held.split_to(whole.min(self.held.len()));
            self.passing = whole - part.len();
            self.out.extend_from_slice(&part);
            return self.passing == 0;
        }
        if self.held.len() < whole {
            return false;
        }
        let error = self.held.split_to(whole);
        let code = field(&error[HEAD..], b'C').unwrap_or_default();
        if code == READ_ONLY {
            self.refused_write.store(true, Ordering::Relaxed);
        }
        put(&mut self.out, code, &error[HEAD..]);
        true
    }
}

/// The length of a message with its type, from the four bytes after the type, which do not count it.
fn length(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX).saturating_add(1).max(HEAD)
}

/// The fields of an error: a type and a text that ends in 0 each, and at the end a 0.
fn fields(mut body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, rest) = body.split_first().filter(|(kind, _)| **kind != 0)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        body = &rest[end + 1..];
        Some((*kind, &rest[..end]))
    })
}

fn field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    fields(body).find(|(kind, _)| *kind == wanted).map(|(_, text)| text)
}

/// Appends an error with `code` in front of its text.
fn put(out: &mut BytesMut, code: &[u8], body: &[u8]) {
    let start = out.len();
    out.put_u8(b'E');
    out.put_u32(0);
    for (kind, text) in fields(body) {
        out.put_u8(kind);
        if kind == b'M' {
            out.put_slice(code);
            out.put_slice(b": ");
        }
        out.put_slice(text);
        out.put_u8(0);
    }
    out.put_u8(0);
    let length = u32::try_from(out.len() - start - 1).expect("little more than the longest error");
    out[start + 1..start + HEAD].copy_from_slice(&length.to_be_bytes());
}

impl<S: AsyncRead + Unpin> AsyncRead for Coded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        loop {
            if !self.out.is_empty() {
                let count = self.out.len().min(buf.remaining());
                buf.put_slice(&self.out[..count]);
                self.out.advance(count);
                return Poll::Ready(Ok(()));
            }
            let start = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            let count = buf.filled().len() - start;
            let passed = self.pass(&buf.filled()[start..]);
            buf.set_filled(start + passed);
            // At the end of the stream nothing was read; an error that is not complete is lost with its connection.
            if passed > 0 || count == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Coded<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// Makes what is inside TLS a [`Coded`].
pub(super) struct CodedInside<C> {
    pub connector: C,
    pub refused_write: Arc<AtomicBool>,
}

impl<S, C> TlsConnect<S> for CodedInside<C>
where
    C: TlsConnect<S>,
    C::Future: Unpin,
{
    type Stream = Coded<C::Stream>;
    type Error = C::Error;
    type Future = Connecting<C::Future>;

    fn connect(self, stream: S) -> Self::Future {
        let CodedInside { connector, refused_write } = self;
        Connecting { connecting: connector.connect(stream), refused_write }
    }
}

/// Makes what it connects a [`Coded`].
pub(super) struct Connecting<F> {
    connecting: F,
    refused_write: Arc<AtomicBool>,
}

impl<S, E, F> Future for Connecting<F>
where
    F: Future<Output = std::result::Result<S, E>> + Unpin,
{
    type Output = std::result::Result<Coded<S>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inside = ready!(Pin::new(&mut self.connecting).poll(cx));
        Poll::Ready(inside.map(|inside| Coded::new(inside, self.refused_write.clone())))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// What is read if the server's bytes arrive in pieces of this size.
    async fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let (mut server, client) = tokio::io::duplex(piece);
        let refused = Arc::new(AtomicBool::new(false));
        let mut coded = Coded::new(client, refused.clone());
        let mut found = Vec::new();
        let write = async {
            server.write_all(bytes).await.unwrap();
            drop(server);
        };
        tokio::join!(write, async { coded.read_to_end(&mut found).await.unwrap() });
        (found, refused.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn an_error_gets_its_code_and_everything_else_stays() {
        let error = b"SFEHLER\0VERROR\0C40P01\0MVerklemmung entdeckt\0Dein Detail\0\0";
        let coded = b"SFEHLER\0VERROR\0C40P01\0M40P01: Verklemmung entdeckt\0Dein Detail\0\0";
        // A row may hold what looks like an error, and a notice is none.
        let row = message(b'D', &[&[0, 1, 0, 0, 0, 40][..], &message(b'E', &error[..])].concat());
        let notice = message(b'N', error);
        let ready = message(b'Z', b"I");
        let long = message(b'D', &vec![b'E'; 100_000]);
        let empty = message(b'n', b"");
        let around = |error: &[u8]| {
            [&row, &empty, &message(b'E', error), &ready, &notice, &long, &ready]
                .map(Vec::clone)
                .concat()
        };
        let expected = around(coded);
        for piece in [1, 2, 3, 4, 5, 6, 7, 11, 64, 1 << 20] {
            let (found, refused) = read(&around(error), piece).await;
            assert!(found == expected, "in pieces of {piece}: {}", found.escape_ascii());
            assert!(!refused);
        }
    }

    #[tokio::test]
    async fn a_refused_write_is_seen_and_odd_errors_pass() {
        let (_, refused) = read(&message(b'E', b"C25006\0Mnur lesen\0\0"), 3).await;
        assert!(refused);
        let long = message(b'E', &[&b"C40001\0M"[..], &vec![b'x'; LONGEST], b"\0\0"].concat());
        assert!(read(&long, 1000).await.0 == long);
        let short = [b'E', 0, 0, 0, 0, b'Z', 0, 0, 0, 5, b'I'];
        assert_eq!(read(&short, 4).await.0.last(), Some(&b'I'));
    }

    #[test]
    fn only_a_code_is_one() {
        assert_eq!(split("57014: Abbruch: Zeit"), Some(("57014", "Abbruch: Zeit")));
        for other in ["deadlock detected", "abcde: text", "4000: text", ""] {
            assert_eq!(split(other), None, "{other}");
        }
    }
}
