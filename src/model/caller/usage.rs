//! How much of the server is in use: by all callers, by one principal, or from one address.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a call takes while it is in progress. Each kind has limits of its own, so none takes the room of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// One request, one answer, for an authenticated caller.
    Call,
    /// A stream of an authenticated caller, for as long as it is open.
    Stream,
    /// A call that needs no credentials: a check of health.
    Public,
    /// A stream that needs no credentials: a watch of health, or reflection.
    PublicStream,
}

impl CallKind {
    pub const ALL: [CallKind; 4] =
        [CallKind::Call, CallKind::Stream, CallKind::Public, CallKind::PublicStream];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            CallKind::Call => "call",
            CallKind::Stream => "stream",
            CallKind::Public => "public",
            CallKind::PublicStream => "public_stream",
        }
    }
}

/// Whose share of the server is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    All,
    Principal,
    Peer,
}

impl Share {
    /// The name in metrics and errors.
    pub fn name(self) -> &'static str {
        match self {
            Share::All => "all",
            Share::Principal => "principal",
            Share::Peer => "peer",
        }
    }

    /// What a refused caller is answered.
    pub fn refusal(self) -> &'static str {
        match self {
            Share::All => "the server has as many in progress as it takes; nothing was done",
            Share::Principal => "the principal has as many in progress as it may; nothing was done",
            Share::Peer => "the address has as many in progress as it may; nothing was done",
        }
    }
}

/// Calls in progress, by kind.
#[derive(Debug, Default)]
pub struct Usage([AtomicU32; 4]);

impl Usage {
    /// Counts one more, unless there are `most` already.
    pub fn take(&self, kind: CallKind, most: u32) -> bool {
        let counter = self.counter(kind);
        let taken = counter.fetch_add(1, Ordering::Relaxed) < most;
        if !taken {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Counts one less.
    pub fn give_back(&self, kind: CallKind) {
        self.counter(kind).fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn taken(&self, kind: CallKind) -> u32 {
        self.counter(kind).load(Ordering::Relaxed)
    }

    /// True if there are none of any kind.
    pub fn is_idle(&self) -> bool {
        CallKind::ALL.into_iter().all(|kind| self.taken(kind) == 0)
    }

    fn counter(&self, kind: CallKind) -> &AtomicU32 {
        let [call, stream, public, public_stream] = &self.0;
        match kind {
            CallKind::Call => call,
            CallKind::Stream => stream,
            CallKind::Public => public,
            CallKind::PublicStream => public_stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_room_and_what_is_given_back_is_there_again() {
        let usage = Usage::default();
        assert!(usage.take(CallKind::Call, 2) && usage.take(CallKind::Call, 2));
        assert!(!usage.take(CallKind::Call, 2));
        assert!(usage.take(CallKind::Stream, 1) && !usage.take(CallKind::Stream, 1));
        assert_eq!(usage.taken(CallKind::Call), 2, "a refusal takes nothing");
        usage.give_back(CallKind::Call);
        assert!(usage.take(CallKind::Call, 2));
        assert!(!usage.take(CallKind::Public, 0));
        assert!(!usage.is_idle());
    }
}
