//! The body of an answer. What a call holds is free once its answer was sent, or its stream was reset: not before.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use super::shares::Permit;
use crate::grpc::error::{explain, explained};
use crate::model::caller::connection::{CallerConnection, UnreadAnswer};

/// An answer with the room that its call takes; a refusal takes none.
pub struct DoorBody {
    /// `None` = it was given up.
    body: Option<Body>,
    held: Held,
    /// The caller's deadline, for a stream that does not keep it by itself.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What an answer holds.
enum Held {
    Nothing,
    /// Passed on to the one message of a unary answer.
    ByCall(Permit),
    /// Held until the stream is over.
    ByStream(Permit),
}

impl DoorBody {
    /// The answer of a call with one message, or of a stream.
    pub(super) fn new(body: Body, permit: Permit, is_unary: bool) -> DoorBody {
        let held = if is_unary { Held::ByCall(permit) } else { Held::ByStream(permit) };
        DoorBody { body: Some(body), held, deadline: None }
    }

    /// The same, and the stream ends at the caller's deadline.
    pub(super) fn until(mut self, deadline: Instant) -> DoorBody {
        self.deadline = Some(Box::pin(sleep_until(deadline)));
        self
    }

    /// The empty body of a refusal.
    pub(super) fn empty() -> DoorBody {
        DoorBody { body: None, held: Held::Nothing, deadline: None }
    }

    /// The bytes, with what they hold. It is dropped with the last of them: once the connection has sent them, or given
    /// them up.
    fn hold(&mut self, bytes: Bytes) -> Bytes {
        let guard = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => return bytes,
            Held::ByCall(permit) => {
                Guard { _unread: unread(permit.connection()), _permit: Some(permit) }
            }
            Held::ByStream(permit) => {
                let unread = unread(permit.connection());
                self.held = Held::ByStream(permit);
                Guard { _unread: unread, _permit: None }
            }
        };
        Bytes::from_owner(HeldBytes { bytes, _guard: guard })
    }
}

fn in_trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Err(error) = status.add_header(&mut trailers) {
        tracing::warn!(%error, "a refusal without its reason");
    }
    trailers
}

fn unread(connection: &Arc<CallerConnection>) -> UnreadAnswer {
    connection.hand_out()
}

struct Guard {
    _unread: UnreadAnswer,
    _permit: Option<Permit>,
}

struct HeldBytes {
    bytes: Bytes,
    _guard: Guard,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for DoorBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            (self.body, self.held, self.deadline) = (None, Held::Nothing, None);
            let end = explain(Status::deadline_exceeded("the stream is at its deadline"));
            return Poll::Ready(Some(Ok(Frame::trailers(in_trailers(&end)))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let mut frame = frame.map_data(|bytes| self.hold(bytes));
        if let Some(trailers) = frame.trailers_mut()
            && let Some(explained) = Status::from_header_map(trailers).as_ref().and_then(explained)
        {
            // Such as a message of a stream that cannot be read.
            *trailers = in_trailers(&explained);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
