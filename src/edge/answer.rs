//! Answers that the peer does not read. A stream is reset when its peer takes nothing of an answer that lies ready for
//! too long, whatever its flow-control window.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use prometheus::IntCounter;
use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// What the answer did in the poll of its task that is under way on this thread.
    static NOW: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The service has nothing to send yet.
    Service,
    /// Something lies ready for the peer.
    Peer,
}

/// Notes that an answer begins.
pub(super) fn begin<B>(answer: Response<B>) -> Response<AnswerBody<B>> {
    NOW.set(Some(Turn::Peer));
    answer.map(AnswerBody)
}

/// The body of an answer. The service hands a long message over in parts, so that each shows what is read.
pub(super) struct AnswerBody<B>(B);

impl<B: Body<Data = Bytes> + Unpin> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        NOW.set(Some(Turn::Service));
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        NOW.set(Some(Turn::Peer));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// How long the calls of a connection wait for their peer.
pub(super) struct Patience {
    pub most: Duration,
    /// Counts streams that are reset.
    pub unread: IntCounter,
}

pin_project! {
    /// The task of a call: ends when the peer leaves its answer unread for `patience`, which resets the stream.
    pub(super) struct Answering<F> {
        #[pin]
        call: F,
        patience: Arc<Patience>,
        // Since when something lies ready; `None` = nothing does.
        ready_at: Option<Instant>,
        // Made once the task waits for the peer.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F> Answering<F> {
    pub fn new(call: F, patience: Arc<Patience>) -> Answering<F> {
        Answering { call, patience, ready_at: None, timer: None }
    }
}

impl<F: Future<Output = ()>> Future for Answering<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        NOW.set(None);
        if this.call.poll(context).is_ready() {
            return Poll::Ready(());
        }
        match NOW.take() {
            Some(Turn::Peer) => (*this.ready_at, *this.timer) = (Some(Instant::now()), None),
            Some(Turn::Service) => (*this.ready_at, *this.timer) = (None, None),
            // The connection was polled, not the answer: nothing was taken.
            None => {}
        }
        let Some(ready_at) = *this.ready_at else { return Poll::Pending };
        let end = ready_at + this.patience.most;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        ready!(timer.as_mut().poll(context));
        this.patience.unread.inc();
        Poll::Ready(())
    }
}
