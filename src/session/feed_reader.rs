//! A background reader of the activity feed: it reads from its position, hands new activities to
//! its work, and advances the position, in one transaction. The replica that has the row of the
//! position locked is the one that reads.
//!
//! Activities whose rows another transaction has locked are set aside, with all later ones of the
//! same owner. The owner gets a position of its own in the database, and is read from there once
//! the lock is free. So each activity is handled once, and those of an owner in order, while other
//! owners go on.

mod aside;

use std::collections::HashSet;

use prometheus::IntCounter;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::Activity;
use crate::model::feed::Horizon;
use crate::model::statistics::Owner;
use crate::session::batch_size::BatchSize;
use crate::store::feed::aside as positions;
use crate::store::feed::{self, Consumer};
use crate::store::pool::{Database, Transaction};
use aside::Pace;

/// Approximate number of activities per transaction.
const BATCH: u32 = 500;
/// The most owners that one reader sets aside. With more locked owners it waits.
const MAX_ASIDE: usize = 1000;

/// The work on activities.
pub(super) trait FeedWork {
    /// The consumer whose position is used.
    const CONSUMER: Consumer;

    /// The owner whose activities are set aside together.
    fn owner(activity: &Activity) -> Owner;

    /// Writes the results of `activities`, in order; at least one is given. The position is
    /// advanced in the same commit.
    async fn take(&self, tx: &mut Transaction, activities: &[Activity], now: Time) -> Result<()>;
}

/// Reads for `W`.
pub(super) struct FeedReader<W> {
    db: Database,
    clock: Clock,
    work: W,
    size: BatchSize,
    /// The batch size for owners that are set aside.
    aside_size: BatchSize,
    pace: Pace,
    skipped_rows: IntCounter,
}

/// How to take a batch.
#[derive(Clone, Copy)]
enum Take<'a> {
    /// Only if no other replica holds the position.
    Free,
    /// After waiting for the position.
    InTurn,
    /// After waiting for the position, until everything before a horizon is read.
    UpTo(&'a Horizon),
    /// Sets the owners of the batch aside, if the position is unchanged.
    Aside(&'a Horizon),
    /// Skips the batch, if the position is unchanged: another replica may have skipped it.
    PassOver(&'a Horizon),
}

impl<W: FeedWork> FeedReader<W> {
    /// Reads the activities of `db`. Activities that `work` cannot handle are counted in `skipped_rows`.
    pub fn new(db: Database, clock: Clock, work: W, skipped_rows: IntCounter) -> FeedReader<W> {
        let (size, aside_size) = (BatchSize::new(BATCH), BatchSize::new(BATCH));
        FeedReader { db, clock, work, size, aside_size, pace: Pace::default(), skipped_rows }
    }

    /// Reads one batch, and at most one more of the owners that are set aside; true if more may be
    /// pending. Does nothing while another replica holds the position.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing is committed, and the next call begins at the same position.
    pub async fn batch(&self) -> Result<bool> {
        let take = if self.pace.is_starved() { Take::InTurn } else { Take::Free };
        let read = self.step(take).await;
        // Also after a failure: the cause may be that no more owners can be set aside.
        let taken_up = self.take_up_next().await;
        Ok(read? | taken_up?)
    }

    /// Reads until everything committed before the call is read, or `go_on` returns false. Includes
    /// what is set aside of `owner`, unless it is still locked. Does not wait for later writes.
    /// True if everything is read.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some of it may be read.
    pub async fn settle(&self, owner: &Owner, mut go_on: impl FnMut() -> bool) -> Result<bool> {
        let looking = async { feed::now(&mut *self.db.acquire().await?).await };
        let before = self.db.within(looking).await?;
        loop {
            match self.step(Take::UpTo(&before)).await {
                Ok(true) => {}
                Ok(false) => break,
                // No more owners can be set aside, so the reader waits for the lock.
                Err(Error::Unavailable(Outage::Locked(_))) => return Ok(false),
                Err(error) => return Err(error),
            }
            if !go_on() {
                return Ok(false);
            }
        }
        self.settle_aside(owner, go_on).await
    }

    async fn step(&self, take: Take<'_>) -> Result<bool> {
        let (size, mut claimed) = (self.size.now(), None);
        let is_settling = matches!(take, Take::UpTo(_));
        match self.db.within(self.attempt(size, take, &mut claimed)).await {
            Ok(more) => {
                self.size.grow(size);
                Ok(more)
            }
            // Another replica holds the position.
            Err(Error::Unavailable(Outage::Locked(_))) if claimed.is_none() => Ok(is_settling),
            // Each attempt waits for the lock, so the batch is not halved step by step.
            Err(Error::Unavailable(Outage::Locked(_))) if size > 1 => {
                self.size.one_by_one();
                Ok(true)
            }
            Err(error) if self.size.shrink(size, &error) => Ok(true),
            // A retry would fail the same way, and block everything after it.
            Err(error) => match (&error, &claimed) {
                (Error::Internal(_), Some(from)) => {
                    tracing::error!(%error, reader = W::CONSUMER.name(), "an activity is skipped");
                    let more = self.once(Take::PassOver(from)).await?;
                    self.skipped_rows.inc();
                    Ok(more || is_settling)
                }
                // The row may stay locked for long.
                (Error::Unavailable(Outage::Locked(_)), Some(from)) => {
                    let more = self.once(Take::Aside(from)).await?;
                    tracing::warn!(%error, reader = W::CONSUMER.name(), "activities are set aside");
                    Ok(more || is_settling)
                }
                _ => Err(error),
            },
        }
    }

    async fn once(&self, take: Take<'_>) -> Result<bool> {
        self.db.within(self.attempt(1, take, &mut None)).await
    }

    /// True if more may be pending. `claimed` receives the position, once it is locked.
    async fn attempt(
        &self,
        size: u32,
        take: Take<'_>,
        claimed: &mut Option<Horizon>,
    ) -> Result<bool> {
        // Claiming is a write: an idle database must stay idle.
        if !feed::is_unread(&mut *self.db.acquire().await?, W::CONSUMER).await? {
            return Ok(false);
        }
        let reading = self.db.transaction(async |tx| {
            let from = match take {
                Take::InTurn | Take::UpTo(_) => Some(feed::wait_and_claim(tx, W::CONSUMER).await?),
                Take::Free | Take::Aside(_) | Take::PassOver(_) => {
                    feed::claim(tx, W::CONSUMER).await?
                }
            };
            self.pace.claimed(from.is_some());
            let is_done = |from: &Horizon| matches!(take, Take::UpTo(end) if from.covers(end));
            let Some(from) = from.filter(|from| !is_done(from)) else {
                return Ok(false);
            };
            if matches!(take, Take::Aside(at) | Take::PassOver(at) if *at != from) {
                return Ok(true);
            }
            *claimed = Some(from.clone());
            let now = self.clock.now();
            let aside: HashSet<String> = positions::all(tx, W::CONSUMER).await?;
            let end = feed::now(tx).await?;
            let (span, mut activities) = feed::read_until(tx, from, end.clone(), size).await?;
            let more = !span.to().covers(&end);
            let read_at = read_at(&activities, more, now);
            if !aside.is_empty() {
                activities.retain(|activity| !aside.contains(&W::owner(activity).digest()));
            }
            match take {
                _ if activities.is_empty() => {}
                Take::PassOver(_) => {}
                Take::Aside(_) => self.set_aside(tx, &activities, &aside, span.from()).await?,
                Take::Free | Take::InTurn | Take::UpTo(_) => {
                    self.work.take(tx, &activities, now).await?
                }
            }
            feed::advance(tx, W::CONSUMER, span.to(), read_at).await?;
            Ok(more)
        });
        Ok(reading.await?.answer)
    }
}

/// The approximate time up to which the batch is read. Activities are read in the order of commits,
/// and handled in the order of time.
fn read_at(activities: &[Activity], more: bool, now: Time) -> Time {
    let last = activities.last().map(|activity| activity.occurred_at);
    last.filter(|_| more).map_or(now, |last| last.min(now))
}
