//! Statements that the server may still run although no caller waits for their answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

/// How many statements of a connection were sent and not answered. Clones share it.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

/// A statement under way. Dropped before its answer begins, it stays counted.
pub struct InFlightStatement<F> {
    statement: F,
    unanswered: InFlight,
    sent: bool,
}

impl InFlight {
    /// Counts this statement from its first poll to its answer.
    pub fn count<F>(&self, statement: F) -> InFlightStatement<F> {
        InFlightStatement { statement, unanswered: self.clone(), sent: false }
    }

    /// True if there are any.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl<F: Future + Unpin> Future for InFlightStatement<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if !std::mem::replace(&mut self.sent, true) {
            self.unanswered.0.fetch_add(1, Ordering::Relaxed);
        }
        let answer = ready!(Pin::new(&mut self.statement).poll(context));
        self.unanswered.0.fetch_sub(1, Ordering::Relaxed);
        Poll::Ready(answer)
    }
}
