//! Handshakes under way, of which there are only so many. Who floods the port with half hellos displaces
//! the oldest of them, and an honest handshake takes milliseconds: so it gets through all the same.

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
    /// By number, so the oldest is the first.
    all: BTreeMap<u64, CancellationToken>,
}

/// One of them; dropping it ends it.
pub struct Handshake {
    all: Handshakes,
    number: u64,
    given_up: CancellationToken,
}

impl Handshakes {
    /// At most `most` at once; at least one.
    pub fn new(most: u32) -> Handshakes {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        Handshakes(Arc::new(Inner { most, under_way: Mutex::default() }))
    }

    /// Begins one, and gives up the oldest if there are too many.
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
    /// Completes once it is given up for another.
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
    fn the_oldest_gives_way() {
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
