//! The way of one call through what matches, from the newest session on. What another transaction holds is left to the
//! end, and what cannot be written is skipped, so neither holds up any other session.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::BatchResult;
use crate::error::{Error, Outage, Result};
use crate::model::ids::SessionKey;
use crate::session::batch_size::{BatchSize, is_about_rows};

/// The most sessions that are left to the end, about 1 MB.
const MAX_HELD: usize = 10_000;
/// Between two attempts at what was left to the end.
const PAUSE: Duration = Duration::from_millis(50);
/// How long they are repeated: twice as long as a statement waits for a lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a call is.
pub(super) struct Walk {
    size: BatchSize,
    /// Everything newer was looked at.
    after: Option<Uuid>,
    /// Nothing was yet.
    at_beginning: bool,
    /// Everything was.
    at_end: bool,
    /// Of that, what other transactions held.
    held: Vec<SessionKey>,
    /// There was no room to note all of them.
    too_many: bool,
    /// Since when none of them could be locked.
    held_since: Option<Instant>,
    /// Where the first batch began that left something, once one did.
    left_from: Option<Uuid>,
    /// Why a session cannot be ended; the first such error.
    failure: Option<Error>,
    /// The last attempt is being repeated.
    repeats: bool,
    /// A batch was not answered: it may have been committed, and what it ended is not counted.
    is_unknown: bool,
}

/// What the next batch looks at.
pub(super) enum WalkPart {
    /// At most `limit` sessions older than `after`; `first` until one such batch is done.
    Next { after: Option<Uuid>, limit: usize, first: bool },
    /// Sessions that were left to the end.
    Held(Vec<SessionKey>),
}

/// Where the next call of the request is to begin, after the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStart {
    /// Behind the batch, unless that leaves something.
    Next,
    /// Here: something newer than the batch is left.
    Stays(Uuid),
    /// Nowhere, unless the batch leaves something: it is the last one. Else here.
    Last(Uuid),
}

/// What a batch that failed was about.
pub(super) struct Tried {
    /// The first session of it.
    pub first: SessionKey,
    pub many: usize,
    /// Everything newer was looked at before.
    pub from: Uuid,
}

impl Walk {
    /// At the newest session, or at the newest older than `after`, with batches of `most`.
    pub fn new(most: u32, after: Option<Uuid>) -> Walk {
        Walk {
            size: BatchSize::new(most),
            after,
            at_beginning: true,
            at_end: false,
            held: Vec::new(),
            too_many: false,
            held_since: None,
            left_from: None,
            failure: None,
            repeats: false,
            is_unknown: false,
        }
    }

    /// What is next, after a pause if it is tried again; `None` at the end.
    pub async fn next(&mut self) -> Option<WalkPart> {
        let limit = self.size.now() as usize;
        if !self.at_end {
            return Some(WalkPart::Next { after: self.after, limit, first: self.at_beginning });
        }
        if self.held.is_empty() {
            return None;
        }
        let since = *self.held_since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
        Some(WalkPart::Held(self.held[..limit.min(self.held.len())].to_vec()))
    }

    /// Where the next call of the request begins after what is next.
    pub fn subject(&self) -> NextStart {
        match self.left_from {
            None => NextStart::Next,
            Some(from) if self.is_last() => NextStart::Last(from),
            Some(from) => NextStart::Stays(from),
        }
    }

    fn is_last(&self) -> bool {
        let fits = self.held.len() <= self.size.now() as usize;
        self.at_end && fits && !self.too_many && self.failure.is_none()
    }

    /// A batch was done.
    pub fn went(&mut self, part: WalkPart, step: BatchResult) {
        self.repeats = false;
        self.size.grow(self.size.now());
        match part {
            WalkPart::Next { .. } => {
                self.at_beginning = false;
                (self.after, self.at_end) = (step.next, step.next.is_none());
                if step.leaves_some() {
                    self.left_from = self.left_from.or(step.from);
                }
            }
            WalkPart::Held(keys) => {
                drop(self.held.drain(..keys.len()));
                if step.held.len() < keys.len() {
                    self.held_since = None;
                }
            }
        }
        if step.damaged && self.failure.is_none() {
            self.failure = Some(Error::Internal(anyhow::anyhow!("a session cannot be read")));
        }
        self.keep(step.held);
    }

    /// A batch failed. True if a session was skipped.
    ///
    /// # Errors
    /// The same error, if it does not lie with the sessions of the batch.
    pub fn failed(&mut self, part: WalkPart, tried: Option<Tried>, error: Error) -> Result<bool> {
        use Outage::{Locked, Raced, Timeout};
        self.is_unknown |= matches!(error, Error::Unavailable(Timeout));
        let is_locked = matches!(error, Error::Unavailable(Locked(_)));
        // Whose turn it is with the request is settled by then.
        let once_more =
            matches!(error, Error::Unavailable(Raced(_))) || is_locked && tried.is_none();
        if once_more && !std::mem::replace(&mut self.repeats, true) {
            return Ok(false);
        }
        let Some(tried) = tried.filter(|_| is_about_rows(&error)) else { return Err(error) };
        if is_locked && tried.many > 1 {
            // Each attempt waits for the lock: no search by halves.
            self.size.one_by_one();
            return Ok(false);
        }
        if self.size.shrink(u32::try_from(tried.many).unwrap_or(u32::MAX), &error) {
            return Ok(false);
        }
        self.repeats = false;
        match part {
            WalkPart::Next { .. } => {
                self.after = Some(tried.first.session);
                self.left_from.get_or_insert(tried.from);
            }
            WalkPart::Held(_) => drop(self.held.remove(0)),
        }
        if is_locked {
            self.keep(vec![tried.first]);
            return Ok(false);
        }
        if self.failure.is_none() {
            tracing::error!(%error, session = %tried.first.session, "a session cannot be ended");
            self.failure = Some(error);
        }
        Ok(true)
    }

    /// Leaves sessions to the end, as far as there is room.
    fn keep(&mut self, held: Vec<SessionKey>) {
        let room = MAX_HELD - self.held.len();
        self.too_many |= held.len() > room;
        self.held.extend(held.into_iter().take(room));
    }

    /// True if nothing is left.
    pub fn is_complete(&self) -> bool {
        self.at_end && self.held.is_empty() && !self.too_many && self.failure.is_none()
    }

    /// True if all that is left is what could not be ended.
    pub fn is_held_up(&self) -> bool {
        self.at_end && !self.is_complete()
    }

    /// True if more may have ended than was counted.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Why a session cannot be ended, if one cannot and all others are.
    pub fn into_failure(self) -> Option<Error> {
        self.failure.filter(|_| self.at_end)
    }
}
