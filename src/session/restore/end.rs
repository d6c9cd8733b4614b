//! Ends the sessions from before a restore: first one revocation for each tenant, then the rows,
//! tenant by tenant. The progress is in the database, so any replica continues it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{RestoreParts, RestoreWatch};
use crate::cache::revocation_feed::RevocationFeed;
use crate::clock::Time;
use crate::error::{Error, Outage, Result};
use crate::model::activity::SYSTEM;
use crate::model::session::{EndReason, Session, SessionFilter, State};
use crate::session::terminate_many::{MassTermination, MassTerminationResult};
use crate::store::changes::Changes;
use crate::store::lineage;

/// Tenants per transaction.
const BATCH: i64 = 100;
/// The time limit of one slice.
const SLICE: Duration = Duration::from_secs(5);

const REASON: EndReason = EndReason::DataRegression;
const NOTE: &str = "the database was restored";

/// Sessions that are ended although their rows do not say so yet. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Cutoff(Arc<AtomicI64>);

impl Default for Cutoff {
    fn default() -> Cutoff {
        Cutoff(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

impl Cutoff {
    /// True if the session began before the cut-off.
    pub fn covers(&self, session: &Session) -> bool {
        session.created_at.timestamp_micros() < self.0.load(Ordering::Acquire)
    }

    /// Ends a locked session that began before the cut-off, if its row does not say so yet.
    pub fn apply(&self, session: &mut Session, changes: &mut Changes) {
        if self.covers(session) && session.state_at(changes.at()) == State::Active {
            changes.end_session(session, REASON, None, Some(NOTE.to_owned()));
        }
    }

    /// Takes over the cut-off of the database. Once no session is left to end, the cut-off is
    /// removed, after this replica has read the last ends from the revocation feed.
    pub(super) async fn learn(&self, at: Option<Time>, revocation_feed: &RevocationFeed) {
        let is_over = at.is_none() && self.0.load(Ordering::Acquire) != i64::MIN;
        if is_over && !revocation_feed.catch_up().await {
            revocation_feed.invalidate_all();
        }
        self.0.store(at.map_or(i64::MIN, |at| at.timestamp_micros()), Ordering::Release);
    }
}

/// The last tenant that this replica skipped because some of its sessions are locked. The replica
/// continues with the tenants after it, and starts over at the next turn.
#[derive(Default)]
pub(super) struct Passed(Mutex<Option<String>>);

impl Passed {
    fn tenant(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RestoreWatch {
    /// Ends one slice of the sessions from before a restore, if configured; true if more are left.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn end_slice(&self) -> Result<bool> {
        let RestoreParts { db, clock, terminate, .. } = &self.0.parts;
        let passed = self.0.passed.tenant().clone();
        // One replica withdraws at a time; a second end of a session has no effect.
        let withdrawing = db.transaction(async |tx| {
            let Some(mut unfinished) = lineage::unfinished(tx).await? else { return Ok(None) };
            if !unfinished.withdrawn {
                let tenants = lineage::tenants(tx, &unfinished.withdrawn_through, BATCH).await?;
                let mut changes = Changes::new(clock);
                for tenant in &tenants {
                    changes.withdraw_tenant(tenant, unfinished.noticed_at);
                }
                changes.write(tx).await?;
                unfinished.withdrawn = tenants.len() < BATCH as usize;
                if let Some(last) = tenants.last() {
                    unfinished.withdrawn_through = last.to_string();
                }
                lineage::progress(tx, &unfinished).await?;
                return Ok(Some((unfinished, None)));
            }
            let through = passed.as_ref().unwrap_or(&unfinished.ended_through);
            let next = lineage::tenants(tx, through, 1).await?.pop();
            if next.is_none() && passed.is_none() {
                unfinished.complete = true;
                lineage::progress(tx, &unfinished).await?;
            }
            Ok(Some((unfinished, next)))
        });
        let Some((mut unfinished, next)) = db.within(withdrawing).await?.answer else {
            return Ok(false);
        };
        if unfinished.complete {
            tracing::warn!("all sessions from before the database was restored are over");
            return Ok(true);
        }
        let Some(tenant) = next else {
            // Withdrawals are pending, or skipped tenants are left.
            return Ok(self.0.passed.tenant().take().is_none());
        };
        let created_before = Some(unfinished.noticed_at);
        let input = MassTermination {
            tenant,
            filter: SessionFilter { created_before, ..SessionFilter::default() },
            except: None,
            up_to: None,
            reason: REASON,
            note: Some(NOTE.to_owned()),
            dry_run: false,
            expected_max: None,
            request: None,
            principal: SYSTEM.to_owned(),
        };
        let done = match terminate.walk(&input, SLICE).await {
            Ok((done, _)) => done,
            // Some sessions may have ended.
            Err(Error::Unavailable(Outage::Timeout)) => MassTerminationResult::default(),
            Err(error) => return Err(error),
        };
        // A tenant with locked sessions, or without progress, must not delay the others.
        if !done.complete && !done.held_up && done.count > 0 {
            return Ok(true);
        }
        if done.complete && passed.is_none() {
            unfinished.ended_through = input.tenant.to_string();
            let writing = async { lineage::progress(&mut *db.acquire().await?, &unfinished).await };
            db.within(writing).await?;
        } else {
            *self.0.passed.tenant() = Some(input.tenant.to_string());
        }
        Ok(true)
    }
}
