//! A limit for handshakes in progress. A new handshake beyond the limit displaces the oldest one. A flood of incomplete
//! handshakes thus displaces itself, while an honest handshake, which takes milliseconds, still completes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The handshakes of a port.
#[derive(Clone)]
pub struct Handshakes(Arc<Inner>);

struct Inner {
    most: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    next: u64,
    /// By ascending number, so the oldest is first.
    all: BTreeMap<u64, CancellationToken>,
}

/// A handshake in progress; dropping it frees its slot.
pub struct Handshake {
    all: Handshakes,
    number: u64,
    given_up: CancellationToken,
}

impl Handshakes {
    /// Allows `most` handshakes at once; 0 counts as 1.
    pub fn new(most: u32) -> Handshakes {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Handshakes(Arc::new(Inner { most, under_way: Mutex::default() }))
    }

    /// Begins a handshake, and displaces the oldest one if the limit is reached.
    pub fn begin(&self) -> Handshake {
        let given_up = CancellationToken::new();
        let mut under_way = self.lock();
        if under_way.all.len() >= self.0.most
            && let Some((_, oldest)) = under_way.all.pop_first()
        {
            oldest.cancel();
        }
        let number = under_way.next;
        under_way.next += 1;
        under_way.all.insert(number, given_up.clone());
        drop(under_way);
        Handshake { all: self.clone(), number, given_up }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake {
    /// Completes when a later handshake displaces this one.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_is_displaced() {
        let handshakes = Handshakes::new(2);
        let first = handshakes.begin();
        let second = handshakes.begin();
        drop(handshakes.begin());
        assert!(first.given_up.is_cancelled());
        assert!(!second.given_up.is_cancelled());
        let third = handshakes.begin();
        assert!(!second.given_up.is_cancelled(), "there was a place");
        drop((first, second, third));
        assert!(handshakes.lock().all.is_empty());
    }
}
