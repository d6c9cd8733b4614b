//! A reader of the feed in the background: reads on where it is, shows what is new to its work, and moves on, in one
//! transaction. The replica that has its row locked reads.
//!
//! What cannot be written since somebody has a row locked is set aside, with all that follows of the same owner: they
//! get a position of their own in the database, and go on from there once the lock is gone. So each activity is shown
//! once, and those of an owner in their order, while others go on.

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

/// Activities per transaction, about.
const BATCH: u32 = 500;
/// The most owners that one reader sets aside. Where more are locked, it waits.
const MAX_ASIDE: usize = 1000;

/// What is done with activities.
pub(super) trait FeedWork {
    /// Who reads.
    const CONSUMER: Consumer;

    /// Whose activities are set aside together.
    fn owner(activity: &Activity) -> Owner;

    /// Writes what comes of `activities`, in their order; there is one at least. The position is in the same commit.
    async fn take(&self, tx: &mut Transaction, activities: &[Activity], now: Time) -> Result<()>;
}

/// Reads for `W`.
pub(super) struct FeedReader<W> {
    db: Database,
    clock: Clock,
    work: W,
    size: BatchSize,
    /// Of what is set aside.
    aside_size: BatchSize,
    pace: Pace,
    skipped_rows: IntCounter,
}

/// How a batch is taken.
#[derive(Clone, Copy)]
enum Take<'a> {
    /// Unless another replica is at it.
    Free,
    /// Waiting for others.
    InTurn,
    /// Waiting for others, until all that a horizon shows is read.
    UpTo(&'a Horizon),
    /// Setting its owners aside, if it still begins here.
    Aside(&'a Horizon),
    /// Doing nothing with it, if it still begins here: another replica may have passed it over.
    PassOver(&'a Horizon),
}

impl<W: FeedWork> FeedReader<W> {
    /// Reads the activities of `db`. An activity that `work` fails on is counted in `skipped_rows`.
    pub fn new(db: Database, clock: Clock, work: W, skipped_rows: IntCounter) -> FeedReader<W> {
        let (size, aside_size) = (BatchSize::new(BATCH), BatchSize::new(BATCH));
        FeedReader { db, clock, work, size, aside_size, pace: Pace::default(), skipped_rows }
    }

    /// Reads one batch, and of what is set aside at most another; true if more may be there. While another replica is
    /// at it, there is nothing to do.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing was done, and the next call begins at the same place.
    pub async fn batch(&self) -> Result<bool> {
        let take = if self.pace.is_starved() { Take::InTurn } else { Take::Free };
        let read = self.step(take).await;
        // Also if that failed: it may be since as many are set aside as may be.
        let taken_up = self.take_up_next().await;
        Ok(read? | taken_up?)
    }

    /// Reads until all that was committed before the call is read, or `go_on` says no; also what is set aside of
    /// `owner`, unless it is still locked. What is written meanwhile is not waited for. True if all of it is read.
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
                // As many are set aside as may be: it waits for others' locks.
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
            // Others are at it.
            Err(Error::Unavailable(Outage::Locked(_))) if claimed.is_none() => Ok(is_settling),
            // Each attempt waits for the lock: no search by halves.
            Err(Error::Unavailable(Outage::Locked(_))) if size > 1 => {
                self.size.one_by_one();
                Ok(true)
            }
            Err(error) if self.size.shrink(size, &error) => Ok(true),
            // It would be the same again for ever, and nothing behind it would be read.
            Err(error) => match (&error, &claimed) {
                (Error::Internal(_), Some(from)) => {
                    tracing::error!(%error, reader = W::CONSUMER.name(), "an activity is skipped");
                    let more = self.once(Take::PassOver(from)).await?;
                    self.skipped_rows.inc();
                    Ok(more || is_settling)
                }
                // It may stay locked for long.
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

    /// True if more may be there. `claimed` is the position, once it got as far as having that locked.
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

/// When that was decided which is read. Read in the order of commits, shown in the order of time: about here.
fn read_at(activities: &[Activity], more: bool, now: Time) -> Time {
    let last = activities.last().map(|activity| activity.occurred_at);
    last.filter(|_| more).map_or(now, |last| last.min(now))
}
