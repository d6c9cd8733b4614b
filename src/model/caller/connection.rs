//! A connection as the calls on it see it: who is at the other end, and what they hold.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::model::caller::Identity;
use crate::model::caller::usage::Usage;

/// One connection. Each call on it shares this.
pub struct CallerConnection {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What is in use from the same address, over all of its connections.
    pub peer: Arc<Usage>,
    /// Cancelled once the client certificate has expired, or is not trusted any more. Streams end then.
    pub distrusted: CancellationToken,
    /// Cancelled to close the connection, since others need its slot.
    pub displaced: CancellationToken,
    identity: OnceLock<Identity>,
    authenticated: AtomicBool,
    in_progress: AtomicU32,
    /// Answers that lie ready and were not read, by the generation in which they were made.
    unread: [AtomicUsize; 2],
    generation: AtomicUsize,
}

/// An answer that lies ready. Dropped once it was sent, or given up.
pub struct UnreadAnswer {
    connection: Arc<CallerConnection>,
    generation: usize,
}

impl CallerConnection {
    /// From this address, which uses `peer` in all.
    pub fn new(address: SocketAddr, peer: Arc<Usage>) -> CallerConnection {
        CallerConnection {
            address,
            peer,
            distrusted: CancellationToken::new(),
            displaced: CancellationToken::new(),
            identity: OnceLock::new(),
            authenticated: AtomicBool::new(false),
            in_progress: AtomicU32::new(0),
            unread: Default::default(),
            generation: AtomicUsize::new(0),
        }
    }

    /// Sets the identity that the handshake proved, once.
    pub fn identify(&self, identity: Identity) {
        // There is one handshake.
        let _ = self.identity.set(identity);
    }

    /// The identity that the connection proved of its peer.
    pub fn identity(&self) -> &Identity {
        self.identity.get().unwrap_or(&Identity::Unknown)
    }

    /// Notes that a caller was permitted something that not everybody may do.
    pub fn authenticate(&self) {
        // Read first: after the first call nothing is written.
        if !self.authenticated.load(Ordering::Relaxed) {
            self.authenticated.store(true, Ordering::Relaxed);
        }
    }

    /// True once a caller on it was authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Counts a call that begins.
    pub fn begin_call(&self) {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that is over.
    pub fn end_call(&self) {
        self.in_progress.fetch_sub(1, Ordering::Relaxed);
    }

    /// True if no call is in progress.
    pub fn is_idle(&self) -> bool {
        self.in_progress.load(Ordering::Relaxed) == 0
    }

    /// Notes an answer that is handed to the connection.
    pub fn hand_out(self: &Arc<CallerConnection>) -> UnreadAnswer {
        let generation = self.generation.load(Ordering::Relaxed);
        self.unread[generation].fetch_add(1, Ordering::Relaxed);
        UnreadAnswer { connection: self.clone(), generation }
    }

    /// Called at regular intervals: true if an answer from before the last call was not read yet, so it is at least one
    /// interval old.
    pub fn is_stuck(&self) -> bool {
        let other = 1 - self.generation.load(Ordering::Relaxed);
        let stuck = self.unread[other].load(Ordering::Relaxed) > 0;
        if !stuck {
            self.generation.store(other, Ordering::Relaxed);
        }
        stuck
    }
}

impl Drop for UnreadAnswer {
    fn drop(&mut self) {
        self.connection.unread[self.generation].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Arc<CallerConnection> {
        Arc::new(CallerConnection::new("192.0.2.1:1".parse().unwrap(), Arc::default()))
    }

    #[test]
    fn an_answer_is_stuck_after_one_to_two_intervals() {
        let connection = connection();
        assert!(!connection.is_stuck());
        let answer = connection.hand_out();
        assert!(!connection.is_stuck(), "less than an interval old");
        assert!(connection.is_stuck());
        drop(answer);
        assert!(!connection.is_stuck());
    }

    #[test]
    fn a_connection_that_is_read_is_never_stuck() {
        let connection = connection();
        let mut last = connection.hand_out();
        for _ in 0..10 {
            assert!(!connection.is_stuck());
            let before = std::mem::replace(&mut last, connection.hand_out());
            drop(before);
        }
    }
}
