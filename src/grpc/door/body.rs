//! The body of an answer. What a call holds is free once its answer was sent, or its stream was reset: not before.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use super::shares::Permit;
use crate::grpc::error::{explain, explained};
use crate::model::caller::connection::UnreadAnswer;

/// The most of an answer that is handed to the connection at once, in bytes, so that it shows what is read of it.
const PART: usize = 16 << 10;

const GRPC_STATUS: &str = "grpc-status";

/// An answer with the room that its call takes; a refusal takes none.
pub struct DoorBody {
    /// `None` = it was given up.
    body: Option<Body>,
    /// Of a message, the parts that were not handed over yet.
    rest: Bytes,
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
        DoorBody { body: Some(body), rest: Bytes::new(), held, deadline: None }
    }

    /// The same, and the stream ends at the caller's deadline.
    pub(super) fn until(mut self, deadline: Instant) -> DoorBody {
        self.deadline = Some(Box::pin(sleep_until(deadline)));
        self
    }

    /// The empty body of a refusal.
    pub(super) fn empty() -> DoorBody {
        DoorBody { body: None, rest: Bytes::new(), held: Held::Nothing, deadline: None }
    }

    /// The next part of the message, with what it holds until the connection has sent it or given it up: an answer
    /// that is not read, and the last part of a unary answer also the room of its call.
    fn next_part(&mut self) -> Bytes {
        let part = self.rest.split_to(self.rest.len().min(PART));
        let (Held::ByCall(permit) | Held::ByStream(permit)) = &self.held else { return part };
        let unread = permit.connection().hand_out();
        let is_last = self.rest.is_empty() && matches!(self.held, Held::ByCall(_));
        let last = is_last.then(|| std::mem::replace(&mut self.held, Held::Nothing));
        let guard = Guard { _unread: unread, _last: last };
        Bytes::from_owner(HeldBytes { bytes: part, _guard: guard })
    }
}

fn in_trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Err(error) = status.add_header(&mut trailers) {
        tracing::warn!(%error, "a refusal without its reason");
    }
    trailers
}

struct Guard {
    _unread: UnreadAnswer,
    /// The room of the call, in its last part.
    _last: Option<Held>,
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
            self.rest.clear();
            let end = explain(Status::deadline_exceeded("the stream is at its deadline"));
            return Poll::Ready(Some(Ok(Frame::trailers(in_trailers(&end)))));
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.next_part()))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let mut frame = match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                return Poll::Ready(Some(Ok(Frame::data(self.next_part()))));
            }
            Err(other) => other,
        };
        if let Some(trailers) = frame.trailers_mut()
            && trailers.get(GRPC_STATUS).is_some_and(|code| code != "0")
            && let Some(explained) = Status::from_header_map(trailers).as_ref().and_then(explained)
        {
            // Such as a message of a stream that cannot be read.
            *trailers = in_trailers(&explained);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
