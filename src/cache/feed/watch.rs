//! A watcher: reads by itself up to the position of the reader, then takes the reader's batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ring::{NextBatch, Ring};
use super::{ActivityBatch, Inner};
use crate::error::{Error, Result};
use crate::model::activity::Activity;
use crate::model::feed::{Horizon, Position, Span};

/// Makes an event of an activity of a batch, or skips it.
pub type Pick<E> = Box<dyn Fn(&Activity, &ActivityBatch) -> Option<E> + Send + Sync>;

/// The time between two polls of a watcher that is ahead of the reader.
const BEHIND: Duration = Duration::from_millis(50);

/// One watcher. Dropping it frees its slot.
pub struct Subscription<E> {
    hub: Arc<Inner>,
    ring: Arc<Ring>,
    _slot: OwnedSemaphorePermit,
    pick: Pick<E>,
    at: SubscriptionState,
    /// The number of the next batch of the reader; `None` while this watcher reads by itself.
    joined: Option<u64>,
}

enum SubscriptionState {
    /// It has seen everything that this shows.
    After(Horizon),
    /// It has seen all before this batch, and so many of its activities.
    In(Arc<ActivityBatch>, usize),
    /// It was within a span, which is read again.
    Resumed(Position),
}

impl<E> Subscription<E> {
    pub(super) fn new(
        hub: Arc<Inner>,
        ring: Arc<Ring>,
        slot: OwnedSemaphorePermit,
        from: Position,
        pick: Pick<E>,
    ) -> Subscription<E> {
        let at = match from {
            Position::After(seen) => SubscriptionState::After(seen),
            within => SubscriptionState::Resumed(within),
        };
        Subscription { hub, ring, _slot: slot, pick, at, joined: None }
    }

    /// The next event, or `None` at `until`. Takes at most one read longer, however many activities are skipped.
    ///
    /// # Errors
    /// [`Error::WatchTooSlow`]; [`Error::Unavailable`].
    pub async fn next(&mut self, until: Instant) -> Result<Option<E>> {
        loop {
            if let Some(event) = self.pick_next() {
                return Ok(Some(event));
            }
            if Instant::now() >= until {
                self.keep_reading();
                return Ok(None);
            }
            match (&self.at, self.joined) {
                (SubscriptionState::Resumed(position), _) => {
                    let position = position.clone();
                    self.resume(position, until).await?;
                }
                (SubscriptionState::After(seen), None) => {
                    let seen = seen.clone();
                    self.catch_up(seen, until).await?;
                }
                (_, Some(number)) => self.take(number, until).await?,
                (SubscriptionState::In(..), None) => {
                    unreachable!("what is in hand was looked at above")
                }
            }
        }
    }

    /// The position up to which it has returned every event.
    pub fn position(&self) -> Position {
        match &self.at {
            SubscriptionState::After(seen) => Position::After(seen.clone()),
            SubscriptionState::Resumed(position) => position.clone(),
            SubscriptionState::In(batch, seen) => match seen.checked_sub(1) {
                Some(last) => Position::Within(batch.span.clone(), batch.activities[last].0),
                None => Position::After(batch.span.from().clone()),
            },
        }
    }

    /// The next event of the batch in hand.
    fn pick_next(&mut self) -> Option<E> {
        let SubscriptionState::In(batch, seen) = &mut self.at else { return None };
        let mut event = None;
        while let Some((_, activity)) = batch.activities.get(*seen) {
            *seen += 1;
            #[cfg(debug_assertions)]
            let activity = &match crate::broken::is("renames-events") && crate::broken::seldom() {
                true => Activity {
                    id: uuid::Uuid::from_u128(!activity.id.as_u128()),
                    ..activity.clone()
                },
                false => activity.clone(),
            };
            event = (self.pick)(activity, batch);
            #[cfg(debug_assertions)]
            if crate::broken::is("skips-events") && crate::broken::seldom() {
                event = None;
            }
            #[cfg(debug_assertions)]
            if crate::broken::is("repeats-events") && event.is_some() && crate::broken::seldom() {
                *seen -= 1;
            }
            if event.is_some() {
                break;
            }
        }
        if *seen == batch.activities.len() {
            self.at = SubscriptionState::After(batch.span.to().clone());
        }
        event
    }

    async fn resume(&mut self, position: Position, until: Instant) -> Result<()> {
        self.at = match position {
            Position::After(seen) => SubscriptionState::After(seen),
            Position::Within(span, slot) => {
                let turn = timeout_at(until, self.hub.own_reads.acquire());
                let Ok(_turn) = turn.await else { return Ok(()) };
                let batch = self.hub.read_again(span).await?;
                let seen = batch.up_to(slot);
                SubscriptionState::In(Arc::new(batch), seen)
            }
        };
        Ok(())
    }

    /// Reads one span towards the reader, which moves on meanwhile.
    async fn catch_up(&mut self, seen: Horizon, until: Instant) -> Result<()> {
        let mut next_batch = self.ring.next_batch();
        let Some((end, number)) = self.ring.end_of_line().map_err(Error::Unavailable)? else {
            // The reader has not begun yet.
            let _ = timeout_at(until, next_batch.changed()).await;
            return Ok(());
        };
        match Span::new(seen.clone(), end.clone()) {
            Some(span) if span.is_empty() => {
                self.joined = Some(number);
                self.at = SubscriptionState::After(end);
            }
            Some(_) => {
                let turn = timeout_at(until, self.hub.own_reads.acquire());
                let Ok(_turn) = turn.await else { return Ok(()) };
                let (batch, _) = self.hub.read(seen, end.clone()).await?;
                if *batch.span.to() == end {
                    self.joined = Some(number);
                }
                self.at = SubscriptionState::In(Arc::new(batch), 0);
            }
            // The position comes from another replica, and is ahead of this reader.
            None => sleep_until(until.min(Instant::now() + BEHIND)).await,
        }
        Ok(())
    }

    /// Takes the next batch of the reader, or waits for it.
    async fn take(&mut self, number: u64, until: Instant) -> Result<()> {
        let mut next_batch = self.ring.next_batch();
        match self.ring.find(number) {
            NextBatch::Batch(batch) => {
                self.at = SubscriptionState::In(batch, 0);
                self.joined = Some(number + 1);
            }
            NextBatch::Nothing(seen) => {
                self.at = SubscriptionState::After(seen);
                let _ = timeout_at(until, next_batch.changed()).await;
            }
            NextBatch::Gone => return Err(Error::WatchTooSlow),
            NextBatch::Ended(outage) => return Err(Error::Unavailable(outage)),
        }
        Ok(())
    }

    /// Moves to the position of the reader, if every event of its batches was returned.
    fn keep_reading(&mut self) {
        if let (SubscriptionState::After(_), Some(number)) = (&self.at, self.joined)
            && let NextBatch::Nothing(seen) = self.ring.find(number)
        {
            self.at = SubscriptionState::After(seen);
        }
    }
}
