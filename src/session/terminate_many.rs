//! TerminateSessions: ends all sessions that match a filter, in batches.
//!
//! It begins at the newest session. Ids sort by creation, so sessions created meanwhile are newer
//! than the start, and a call ends even while creates continue. Every session committed before the
//! call is covered.

pub(super) mod budget;
mod count;
mod progress;
mod request;
mod walk;

use std::time::Duration;

use prometheus::IntCounter;

use crate::cache::revocation_feed::{CATCH_UP, RevocationFeed};
use crate::clock::Clock;
use crate::error::{Error, Outage, Result};
use crate::model::ids::SessionKey;
use crate::model::revocation::{Revocation, Subject, digest};
use crate::model::session::{State, StateFilter};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{sessions, watermark};
use budget::Budget;
use walk::{BatchResult, Tried, Walk, WalkPart};

pub use request::{MassTermination, MassTerminationResult};

/// Sessions per transaction. Locks are short, and a failure loses little.
const BATCH: u32 = 500;
/// The most sessions in an answer.
const SAMPLE: usize = 10;

/// Terminates sessions by filter.
pub struct TerminateMany {
    db: Database,
    clock: Clock,
    touches: Touches,
    revocation_feed: RevocationFeed,
    skipped_rows: IntCounter,
}

impl TerminateMany {
    /// Terminates sessions of `db`. Those that cannot be read or written are skipped, and counted in `skipped_rows`.
    pub fn new(
        db: Database,
        clock: Clock,
        touches: Touches,
        revocation_feed: RevocationFeed,
        skipped_rows: IntCounter,
    ) -> TerminateMany {
        TerminateMany { db, clock, touches, revocation_feed, skipped_rows }
    }

    /// Ends the matching sessions for at most `time`, or continues the earlier calls of the same
    /// request. Counted ends are final. A session that another transaction has locked is skipped
    /// and retried at the end, so it delays no other.
    ///
    /// # Errors
    /// [`Error::Precondition`] if more match than expected, [`Error::RequestIdReused`], and
    /// [`Error::Unavailable`]: some may have ended. [`Error::Internal`] if a session cannot be
    /// ended: then all others are.
    ///
    /// [`Error::Precondition`]: crate::error::Error::Precondition
    /// [`Error::RequestIdReused`]: crate::error::Error::RequestIdReused
    pub async fn terminate(
        &self,
        input: &MassTermination,
        time: Duration,
    ) -> Result<MassTerminationResult> {
        // A quarter of the time, `CATCH_UP` at most, is reserved for the catch-up with the revocation feed.
        let (mut done, failure) = self.walk(input, time - CATCH_UP.min(time / 4)).await?;
        if !input.dry_run && !self.revocation_feed.catch_up().await {
            // Once this is answered, ends by other replicas must be effective on this one too.
            let scope = input
                .filter
                .user
                .as_ref()
                .map_or(Subject::Tenant, |user| Subject::User(digest(&input.tenant, user)));
            self.revocation_feed.invalidate(&Revocation::new(
                input.tenant.clone(),
                scope,
                self.clock.now(),
            ));
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        done.watermark = Some(watermark::including(&self.db, done.watermark).await?);
        Ok(done)
    }

    /// The same for the service itself, without a caller: an error of a single session is returned with the result.
    ///
    /// # Errors
    /// As [`TerminateMany::terminate`], except for those of single sessions.
    pub async fn walk(
        &self,
        input: &MassTermination,
        time: Duration,
    ) -> Result<(MassTerminationResult, Option<Error>)> {
        let mut budget = Budget::new(time);
        #[cfg(debug_assertions)]
        if crate::broken::is("ends-nothing") {
            return Ok((
                MassTerminationResult { complete: true, ..MassTerminationResult::default() },
                None,
            ));
        }
        if input.dry_run || (input.expected_max.is_some() && !self.has_begun(input).await?) {
            let counted = self.count(input, &mut budget).await?;
            if input.dry_run {
                return Ok((
                    MassTerminationResult { sample: self.sample(input).await?, ..counted },
                    None,
                ));
            }
            if !counted.complete {
                return Ok((MassTerminationResult::default(), None));
            }
        }
        let mut done = MassTerminationResult::default();
        let (mut walk, mut progress) =
            (Walk::new(BATCH, input.up_to.map(progress::just_before)), None);
        while budget.allows()
            && let Some(part) = walk.next().await
        {
            let mut tried = None;
            let step = self.db.within(self.attempt(input, &part, walk.subject(), &mut tried)).await;
            match step {
                Ok(step) => {
                    done.watermark = done.watermark.max(step.watermark);
                    done.count += step.ended.len() as u64;
                    let room = SAMPLE - done.sample.len();
                    done.sample.extend(step.ended.iter().take(room).cloned());
                    progress = step.progress.clone();
                    walk.went(part, step);
                }
                Err(error) => {
                    if walk.failed(part, tried, error)? {
                        self.skipped_rows.inc();
                    }
                }
            }
        }
        (done.complete, done.held_up) = (walk.is_complete(), walk.is_held_up());
        // The row of a request counts what was committed, whatever the answer was.
        if walk.is_unknown() && (input.request.is_none() || progress.is_none()) {
            return Err(Error::Unavailable(Outage::Timeout));
        }
        let failure = walk.into_failure();
        let done = match progress {
            Some(progress) => self.answer(progress, done.held_up).await?,
            None => done,
        };
        Ok((done, failure))
    }

    async fn attempt(
        &self,
        input: &MassTermination,
        part: &WalkPart,
        subject: walk::NextStart,
        tried: &mut Option<Tried>,
    ) -> Result<BatchResult> {
        let stepping =
            async |tx: &mut Transaction| self.step(tx, input, part, subject, tried).await;
        let done = self.db.transaction(stepping).await?;
        Ok(BatchResult { watermark: done.watermark, ..done.answer })
    }

    async fn step(
        &self,
        tx: &mut Transaction,
        input: &MassTermination,
        part: &WalkPart,
        subject: walk::NextStart,
        tried: &mut Option<Tried>,
    ) -> Result<BatchResult> {
        let now = self.clock.now();
        let begun = progress::begun(tx, input, now).await?;
        if begun.as_ref().is_some_and(|begun| begun.complete) {
            return Ok(BatchResult { progress: begun, ..BatchResult::default() });
        }
        // Sessions past a deadline are included: another replica may hold unwritten activity.
        let filter = input.selecting(StateFilter::Unended);
        let (after, keys, next) = match part {
            WalkPart::Next { after, limit, .. } => {
                let from = progress::further(*after, begun.as_ref());
                let keys =
                    sessions::matching(tx, &input.tenant, &filter, from, *limit, now).await?;
                let next = keys.last().filter(|_| keys.len() == *limit).map(|key| key.session);
                (from, keys, next)
            }
            WalkPart::Held(keys) => (None, keys.clone(), None),
        };
        // Also for the first batch, so that the request excludes sessions created later.
        let from = after.or(keys.first().map(|key| progress::just_before(key.session)));
        *tried = keys.first().cloned().zip(from).map(|(first, from)| Tried {
            first,
            many: keys.len(),
            from,
        });
        let named: Vec<&SessionKey> = keys.iter().filter(|key| input.names(key)).collect();
        // A damaged row, or one that another transaction has locked, must not prevent the end of the others.
        let locked = sessions::lock_free(tx, &named).await?;
        self.skipped_rows.inc_by(locked.damaged.len() as u64);
        let mut changes = Changes::new(&self.clock);
        // With a request id, over all its calls together.
        let begins = match input.request {
            Some(_) => begun.is_none(),
            None => matches!(part, WalkPart::Next { first: true, .. }),
        };
        if begins && input.is_of_whole_tenant() {
            changes.withdraw_tenant(&input.tenant, changes.at());
        }
        let mut ended = Vec::new();
        for mut session in locked.sessions {
            self.touches.overlay(&mut session);
            // It may have been used, or have ended, before it was locked.
            let selected = session.state == State::Active && filter.still_selects(&session);
            let by = Some(input.principal.as_str());
            if selected && changes.end_session(&mut session, input.reason, by, input.note.clone()) {
                ended.push(session);
            }
        }
        ended.sort_unstable_by_key(|session| std::cmp::Reverse(session.key.session));
        let held = keys.into_iter().filter(|key| locked.held.get(&key.session) == Some(&true));
        let (held, damaged) = (held.collect(), !locked.damaged.is_empty());
        let mut step = BatchResult { ended, from, next, held, damaged, ..BatchResult::default() };
        step.progress = input
            .request
            .map(|request| progress::advance(begun, input, request, &step, subject, &mut changes));
        changes.write(tx).await?;
        Ok(step)
    }
}
