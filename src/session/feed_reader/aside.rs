//! Owners that are set aside because of locks, and when each is retried.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{FeedReader, FeedWork, MAX_ASIDE, read_at};
use crate::clock::Time;
use crate::error::{Error, Outage, Result};
use crate::model::activity::Activity;
use crate::model::feed::Horizon;
use crate::model::statistics::Owner;
use crate::store::feed::{self, aside};
use crate::store::pool::Transaction;

/// Delay before a locked owner is retried: ten times as long as an attempt waits for the lock,
/// because other owners wait meanwhile.
const PAUSE: Duration = Duration::from_millis(200);
/// After how many misses in a row the reader waits in the queue for the position.
const MISSES: u32 = 8;

/// The schedule of a reader.
#[derive(Default)]
pub(super) struct Pace(Mutex<PaceState>);

#[derive(Default)]
struct PaceState {
    /// How often in a row the position was held by another replica.
    missed: u32,
    /// When the next owner is retried; `None` = at once.
    due: Option<Instant>,
    /// The owner found locked last, so that the others are retried before it.
    last: String,
}

/// The result of an attempt.
enum TakenPosition {
    /// More is pending.
    More,
    /// The owner is not set aside any more.
    Done,
    Locked,
    /// Another replica holds the position.
    Busy,
}

impl<W: FeedWork> FeedReader<W> {
    /// Gives each owner of `activities` a position of its own.
    pub(super) async fn set_aside(
        &self,
        tx: &mut Transaction,
        activities: &[Activity],
        known: &HashSet<String>,
        from: &Horizon,
    ) -> Result<()> {
        let mut owners: BTreeMap<String, Time> = BTreeMap::new();
        for activity in activities {
            owners.entry(W::owner(activity).digest()).or_insert(activity.occurred_at);
        }
        if known.len() + owners.len() > MAX_ASIDE {
            let said = "as many are set aside as may be".to_owned();
            return Err(Error::Unavailable(Outage::Locked(said)));
        }
        aside::add(tx, W::CONSUMER, &owners, from).await
    }

    /// Reads for one of the owners that are set aside, if a retry is due; true if another may be tried at once.
    pub(super) async fn take_up_next(&self) -> Result<bool> {
        let Some(last) = self.pace.due() else { return Ok(false) };
        let finding =
            async { aside::next(&mut *self.db.acquire().await?, W::CONSUMER, &last).await };
        let Some(owner) = self.db.within(finding).await? else {
            self.pace.pause(last);
            return Ok(false);
        };
        let taken = self.take_up(&owner, self.pace.is_starved()).await;
        if !matches!(taken, Ok(TakenPosition::More | TakenPosition::Done | TakenPosition::Busy)) {
            self.pace.pause(owner);
        }
        Ok(matches!(taken?, TakenPosition::More | TakenPosition::Done))
    }

    /// Reads what is set aside of `owner`, until `go_on` returns false or it is locked; true if nothing is left.
    pub(super) async fn settle_aside(
        &self,
        owner: &Owner,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<bool> {
        let owner = owner.digest();
        let looking = async { aside::all(&mut *self.db.acquire().await?, W::CONSUMER).await };
        if !self.db.within(looking).await?.contains(&owner) {
            return Ok(true);
        }
        loop {
            match self.take_up(&owner, true).await? {
                TakenPosition::Done => return Ok(true),
                TakenPosition::Locked => return Ok(false),
                TakenPosition::More | TakenPosition::Busy if !go_on() => return Ok(false),
                TakenPosition::More | TakenPosition::Busy => {}
            }
        }
    }

    async fn take_up(&self, owner: &str, waits: bool) -> Result<TakenPosition> {
        let (size, mut claimed) = (self.aside_size.now(), None);
        let slice = self.slice_of(owner, (size, waits), None, &mut claimed);
        match self.db.within(slice).await {
            Ok(taken) => {
                self.aside_size.grow(size);
                Ok(taken)
            }
            Err(Error::Unavailable(Outage::Locked(_))) => {
                Ok(if claimed.is_some() { TakenPosition::Locked } else { TakenPosition::Busy })
            }
            Err(error) if self.aside_size.shrink(size, &error) => Ok(TakenPosition::More),
            Err(error @ Error::Internal(_)) => {
                tracing::error!(%error, reader = W::CONSUMER.name(), "an activity is skipped");
                let from = claimed.take();
                let taken = self.slice_of(owner, (1, waits), from.as_ref(), &mut claimed);
                let taken = self.db.within(taken).await?;
                self.skipped_rows.inc();
                Ok(taken)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads for `owner` up to the position of the reader, or at most `size` activities of all
    /// owners. A batch that begins at `passed` is skipped. `claimed` receives the position of the
    /// owner, once it is locked.
    async fn slice_of(
        &self,
        owner: &str,
        (size, waits): (u32, bool),
        passed: Option<&Horizon>,
        claimed: &mut Option<Horizon>,
    ) -> Result<TakenPosition> {
        let reading = self.db.transaction(async |tx| {
            let end = match waits {
                true => Some(feed::wait_and_claim(tx, W::CONSUMER).await?),
                false => feed::claim(tx, W::CONSUMER).await?,
            };
            self.pace.claimed(end.is_some());
            let Some(end) = end else {
                return Ok(TakenPosition::Busy);
            };
            let Some(from) = aside::position(tx, W::CONSUMER, owner).await? else {
                return Ok(TakenPosition::Done);
            };
            if passed.is_some_and(|passed| *passed != from) {
                return Ok(TakenPosition::More);
            }
            *claimed = Some(from.clone());
            aside::hurry(tx).await?;
            let now = self.clock.now();
            let (span, mut activities) = feed::read_until(tx, from, end.clone(), size).await?;
            let read_at = read_at(&activities, true, now);
            activities.retain(|activity| W::owner(activity).digest() == owner);
            if passed.is_none() && !activities.is_empty() {
                self.work.take(tx, &activities, now).await?;
            }
            let is_done = span.to().covers(&end);
            match is_done {
                true => aside::remove(tx, W::CONSUMER, owner).await?,
                false => aside::advance(tx, W::CONSUMER, owner, span.to(), read_at).await?,
            }
            Ok(if is_done { TakenPosition::Done } else { TakenPosition::More })
        });
        Ok(reading.await?.answer)
    }
}

impl Pace {
    /// Records whether the position was free.
    pub fn claimed(&self, claimed: bool) {
        let mut state = self.lock();
        state.missed = if claimed { 0 } else { state.missed.saturating_add(1) };
    }

    /// True if other replicas have held the position too often in a row.
    pub fn is_starved(&self) -> bool {
        self.lock().missed >= MISSES
    }

    /// The owner found locked last, if a retry is due.
    fn due(&self) -> Option<String> {
        let state = self.lock();
        let is_due = state.due.is_none_or(|due| due <= Instant::now());
        is_due.then(|| state.last.clone())
    }

    fn pause(&self, last: String) {
        let mut state = self.lock();
        (state.due, state.last) = (Some(Instant::now() + PAUSE), last);
    }

    fn lock(&self) -> MutexGuard<'_, PaceState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
