//! The way of one call through what matches, from the newest session on. What another transaction holds is left to the
//! end, and what cannot be written is passed over, so neither holds up any other session.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Step;
use crate::error::{Error, Outage, Result};
use crate::model::ids::SessionKey;
use crate::session::batch_size::{BatchSize, is_about_rows};

/// The most sessions that are left to the end, about 1 MB.
const MOST_HELD: usize = 10_000;
/// Between two attempts at what was left to the end.
const PAUSE: Duration = Duration::from_millis(50);
/// How long they are repeated: twice as long as a statement waits for a lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a call is.
pub(super) struct Walk {
    size: BatchSize,
    /// Everything newer was looked at.
    after: Option<Uuid>,
    /// So was everything else.
    at_end: bool,
    /// Of that, what other transactions held.
    held: Vec<SessionKey>,
    /// There was no room to note all of them.
    too_many: bool,
    /// Since when they are tried again.
    again_since: Option<Instant>,
    /// Where the first batch began that left something, once one did.
    left_from: Option<Option<Uuid>>,
    /// Why a session cannot be ended; the first such error.
    failure: Option<Error>,
    /// The last attempt is being repeated.
    repeats: bool,
}

/// What the next batch looks at.
pub(super) enum Part {
    /// At most `limit` sessions older than `after`.
    Next { after: Option<Uuid>, limit: usize },
    /// Sessions that were left to the end.
    Held(Vec<SessionKey>),
}

/// Where the next call of the request is to begin, after the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Behind the batch, unless that leaves something.
    Next,
    /// Here: something newer than the batch is left.
    Stays(Option<Uuid>),
    /// Nowhere, unless the batch leaves something: it is the last one. Else here.
    Last(Option<Uuid>),
}

/// What a batch that failed was about.
pub(super) struct Tried {
    /// The newest session of it.
    pub first: Uuid,
    pub many: usize,
    /// Everything newer was looked at before.
    pub from: Option<Uuid>,
}

impl Walk {
    /// At the newest session, or at the newest older than `after`, with batches of `most`.
    pub fn new(most: u32, after: Option<Uuid>) -> Walk {
        Walk {
            size: BatchSize::new(most),
            after,
            at_end: false,
            held: Vec::new(),
            too_many: false,
            again_since: None,
            left_from: None,
            failure: None,
            repeats: false,
        }
    }

    /// What is next, after a pause if it is tried again; `None` at the end.
    pub async fn next(&mut self) -> Option<Part> {
        let limit = self.size.now() as usize;
        if !self.at_end {
            return Some(Part::Next { after: self.after, limit });
        }
        if self.held.is_empty() {
            return None;
        }
        let since = *self.again_since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
        Some(Part::Held(self.held[..limit.min(self.held.len())].to_vec()))
    }

    /// Where the next call of the request begins after what is next.
    pub fn subject(&self) -> Subject {
        match self.left_from {
            None => Subject::Next,
            Some(from) if self.is_last() => Subject::Last(from),
            Some(from) => Subject::Stays(from),
        }
    }

    fn is_last(&self) -> bool {
        let fits = self.held.len() <= self.size.now() as usize;
        self.at_end && fits && !self.too_many && self.failure.is_none()
    }

    /// A batch was done.
    pub fn went(&mut self, part: Part, step: Step) {
        self.repeats = false;
        self.size.grow(self.size.now());
        match part {
            Part::Next { .. } => {
                (self.after, self.at_end) = (step.next, step.next.is_none());
                if !step.held.is_empty() {
                    self.left_from.get_or_insert(step.from);
                }
            }
            Part::Held(keys) => drop(self.held.drain(..keys.len())),
        }
        let room = MOST_HELD - self.held.len();
        self.too_many |= step.held.len() > room;
        self.held.extend(step.held.into_iter().take(room));
    }

    /// A batch failed, and was rolled back as a whole. True if a session was passed over.
    ///
    /// # Errors
    /// The same error, if it does not lie with the sessions of the batch.
    pub fn failed(&mut self, part: Part, tried: Option<Tried>, error: Error) -> Result<bool> {
        let once_more = matches!(error, Error::Unavailable(Outage::Raced(_) | Outage::Locked(_)));
        if once_more && !std::mem::replace(&mut self.repeats, true) {
            return Ok(false);
        }
        let Some(tried) = tried.filter(|_| is_about_rows(&error)) else { return Err(error) };
        if self.size.shrink(u32::try_from(tried.many).unwrap_or(u32::MAX), &error) {
            return Ok(false);
        }
        match part {
            Part::Next { .. } => {
                self.after = Some(tried.first);
                self.left_from.get_or_insert(tried.from);
            }
            Part::Held(_) => drop(self.held.remove(0)),
        }
        self.repeats = false;
        if self.failure.is_none() {
            tracing::error!(%error, session = %tried.first, "a session cannot be ended");
            self.failure = Some(error);
        }
        Ok(true)
    }

    /// True if nothing is left.
    pub fn is_complete(&self) -> bool {
        self.at_end && self.held.is_empty() && !self.too_many && self.failure.is_none()
    }

    /// True if all that is left is what could not be ended.
    pub fn is_held_up(&self) -> bool {
        self.at_end && !self.is_complete()
    }

    /// # Errors
    /// Why a session cannot be ended, if one cannot.
    pub fn finish(self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}
