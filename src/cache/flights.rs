//! Reads under way: one for each key, in a task of its own, so that a cancelled call cancels no other call's read.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::watch;

use crate::error::{Error, Outage, Result};

/// Calls that need the same at the same time share one read. Cheap to clone; clones share the reads.
pub struct Flights<K, V>(Arc<Mutex<HashMap<K, Flight<V>>>>);

/// What a read found, for each call that waited for it.
pub struct Landed<V> {
    pub value: Arc<Result<V>>,
    /// The read may miss what was committed after this moment.
    pub began: Instant,
}

struct Flight<V> {
    began: Instant,
    done: watch::Receiver<Option<Arc<Result<V>>>>,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    /// Waits for the read of `key`, which begins now if none is under way. `read` is given the moment it begins.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the read was given up: it panicked, or the process stops.
    pub async fn join<F>(&self, key: K, read: impl FnOnce(Instant) -> F) -> Result<Landed<V>>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let Flight { began, mut done } = self.begin(key, read);
        let value = match done.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        };
        let given_up = || Outage::Unreachable("the read was given up".to_owned());
        let value = value.ok_or_else(|| Error::Unavailable(given_up()))?;
        Ok(Landed { value, began })
    }

    fn begin<F>(&self, key: K, read: impl FnOnce(Instant) -> F) -> Flight<V>
    where
        F: Future<Output = Result<V>> + Send + 'static,
    {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (sender, done) = watch::channel(None);
        let flight = Flight { began: Instant::now(), done };
        flights.insert(key.clone(), flight.clone());
        // A runtime that is shutting down drops the task, and with it the slot, at once and here.
        drop(flights);
        let slot = FlightSlot { flights: self.clone(), key };
        let reading = read(flight.began);
        tokio::spawn(async move {
            let value = reading.await;
            // A later call finds what was cached, or reads again.
            drop(slot);
            sender.send_replace(Some(Arc::new(value)));
        });
        flight
    }
}

impl<K, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        // Nothing panics while holding it but an allocation that fails.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The slot of a read. Dropping it frees the slot, also if the read panics.
struct FlightSlot<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for FlightSlot<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Flights<K, V> {
        Flights(self.0.clone())
    }
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Flights<K, V> {
        Flights(Arc::default())
    }
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Flight<V> {
        Flight { began: self.began, done: self.done.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_share_one_read_and_its_error() {
        let flights = Flights::<u8, u8>::default();
        let (reads, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let read = |_| {
            let (reads, gate) = (reads.clone(), gate.clone());
            async move {
                reads.fetch_add(1, Ordering::Relaxed);
                gate.notified().await;
                Err(Error::Unavailable(Outage::Unreachable("gone".to_owned())))
            }
        };
        let waiting = join_all((0..100).map(|_| flights.join(1, read)));
        let (landed, ()) = tokio::join!(waiting, async { gate.notify_one() });
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        for landed in landed {
            assert!(matches!(*landed.unwrap().value, Err(Error::Unavailable(_))));
        }
        let found = flights.join(1, |_| async { Ok(7) }).await.unwrap();
        assert!(matches!(*found.value, Ok(7)), "another read, since that one is over");
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_read_that_panics_frees_its_slot() {
        let flights = Flights::<u8, u8>::default();
        let landed = flights.join(1, |_| async { panic!("meant by the test") }).await;
        assert!(matches!(landed, Err(Error::Unavailable(_))));
        assert!(flights.join(1, |_| async { Ok(7) }).await.is_ok());
    }

    #[test]
    fn a_read_that_begins_while_the_runtime_ends_does_not_block() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let entered = handle.enter();
        // The runtime drops at once what is spawned from now on.
        drop(runtime);
        let flights = Flights::<u8, u8>::default();
        flights.begin(1, |_| async { Ok(7) });
        assert!(flights.lock().is_empty());
        drop(entered);
    }
}
