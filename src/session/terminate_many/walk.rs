//! The progress of one call through the matching sessions, from the newest on. A session that
//! another transaction has locked is left to the end, and one that cannot be written is skipped, so
//! neither delays any other session.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::{Error, Outage, Result};
use crate::model::ids::SessionKey;
use crate::model::request::Progress;
use crate::model::session::Session;
use crate::model::watermark::Watermark;
use crate::session::batch_size::{BatchSize, is_about_rows};

/// The result of a batch.
#[derive(Default)]
pub(super) struct BatchResult {
    /// Newest first.
    pub ended: Vec<Session>,
    /// The position before the batch: everything newer was processed.
    pub from: Option<Uuid>,
    /// Where the next batch begins, if there is one.
    pub next: Option<Uuid>,
    /// Sessions that other transactions have locked.
    pub held: Vec<SessionKey>,
    /// Some rows are damaged.
    pub damaged: bool,
    /// The progress of the request, after the batch.
    pub progress: Option<Progress>,
    pub watermark: Option<Watermark>,
}

impl BatchResult {
    /// True if it did not end all sessions of the batch.
    pub fn leaves_some(&self) -> bool {
        self.damaged || !self.held.is_empty()
    }
}

/// The most locked sessions that are left to the end, about 1 MB.
const MAX_HELD: usize = 10_000;
/// Delay between two attempts at the sessions left to the end.
const PAUSE: Duration = Duration::from_millis(50);
/// How long these are retried: twice as long as a statement waits for a lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// The progress of a call.
pub(super) struct Walk {
    size: BatchSize,
    /// Everything newer was processed.
    after: Option<Uuid>,
    /// No batch has succeeded yet.
    at_beginning: bool,
    /// Every matching session was processed.
    at_end: bool,
    /// Of these, the sessions that other transactions have locked.
    held: Vec<SessionKey>,
    /// True if `held` was full.
    too_many: bool,
    /// Since when none of `held` could be locked.
    held_since: Option<Instant>,
    /// Where the first batch with unfinished sessions began.
    left_from: Option<Uuid>,
    /// The first error of a session that cannot be ended.
    failure: Option<Error>,
    /// The last attempt is being retried.
    repeats: bool,
    /// A batch had no answer: it may be committed, but its ends are not counted.
    is_unknown: bool,
}

/// The sessions of the next batch.
pub(super) enum WalkPart {
    /// At most `limit` sessions older than `after`; `first` until one such batch is done.
    Next { after: Option<Uuid>, limit: usize, first: bool },
    /// Sessions that were left to the end.
    Held(Vec<SessionKey>),
}

/// Where the next call of the request begins, after the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStart {
    /// After the batch, unless the batch leaves sessions.
    Next,
    /// Here: sessions newer than the batch are left.
    Stays(Uuid),
    /// Here if the batch, which is the last one, leaves sessions; else the request is complete.
    Last(Uuid),
}

/// The sessions of a failed batch.
pub(super) struct Tried {
    /// Its first session.
    pub first: SessionKey,
    pub many: usize,
    /// The position before the batch: everything newer was processed.
    pub from: Uuid,
}

impl Walk {
    /// Starts at the newest session, or at the newest older than `after`, with batches of `most`.
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

    /// The next batch, after a pause if it is a retry; `None` at the end.
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

    /// Where the next call of the request begins after the next batch.
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

    /// A batch succeeded.
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
    /// The same error, if the sessions of the batch cannot be the cause.
    pub fn failed(&mut self, part: WalkPart, tried: Option<Tried>, error: Error) -> Result<bool> {
        use Outage::{Locked, Raced, Timeout};
        self.is_unknown |= matches!(error, Error::Unavailable(Timeout));
        let is_locked = matches!(error, Error::Unavailable(Locked(_)));
        // By then the concurrent call of the request has committed.
        let once_more =
            matches!(error, Error::Unavailable(Raced(_))) || is_locked && tried.is_none();
        if once_more && !std::mem::replace(&mut self.repeats, true) {
            return Ok(false);
        }
        let Some(tried) = tried.filter(|_| is_about_rows(&error)) else { return Err(error) };
        if is_locked && tried.many > 1 {
            // Each attempt waits for the lock, so the batch is not halved step by step.
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

    /// Leaves sessions to the end, up to the capacity.
    fn keep(&mut self, held: Vec<SessionKey>) {
        let room = MAX_HELD - self.held.len();
        self.too_many |= held.len() > room;
        self.held.extend(held.into_iter().take(room));
    }

    /// True if nothing is left.
    pub fn is_complete(&self) -> bool {
        self.at_end && self.held.is_empty() && !self.too_many && self.failure.is_none()
    }

    /// True if only sessions are left that cannot be ended.
    pub fn is_held_up(&self) -> bool {
        self.at_end && !self.is_complete()
    }

    /// True if more sessions may have ended than were counted.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// The error of a session that cannot be ended, if all others have ended.
    pub fn into_failure(self) -> Option<Error> {
        self.failure.filter(|_| self.at_end)
    }
}
