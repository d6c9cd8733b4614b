//! EraseUser: deletes everything of a user, in slices.
//!
//! Each slice is a transaction under the user lock that creates take. So a create commits either
//! before a slice, and is deleted with the rest, or after the last slice, as the create of a new
//! user. Within a slice the order of the tables matters. Sessions are deleted first, and a delete
//! waits for every transaction that has the session locked. Once no session is left, every refresh,
//! end and expiry has committed its writes, no other can begin, and their rows are in the tables
//! that follow. The same holds for alerts and their updates, and for reports, which lock the user
//! or the session that they name. Next is the audit trail, which all of them write, and last the
//! statistics that are counted from it. A new writer of a user's rows must lock the user, or a row
//! of a table earlier in the order.

use std::time::{Duration, Instant};

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::ids::{TenantId, UserId};
use crate::model::request::RequestId;
use crate::model::revocation::{Revocation, Subject, digest};
use crate::model::watermark::Watermark;
use crate::session::roll_up::{self, RollUp};
use crate::session::terminate_many::budget::Budget;
use crate::store::changes::Changes;
use crate::store::erase::{self, Gone, TABLES, Table};
use crate::store::pool::{Database, Transaction};
use crate::store::{feed, requests, revocations, watermark};

/// Rows per transaction. Locks are short, and a failure loses little.
const SLICE: u64 = 1000;

/// Erases users.
pub struct Erase {
    db: Database,
    clock: Clock,
    roll_up: RollUp,
}

/// What a caller asks for.
pub struct Erasure {
    pub tenant: TenantId,
    pub user: UserId,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The numbers of deleted rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Sessions that had not ended before.
    pub ended: u64,
    pub sessions: u64,
    pub alerts: u64,
    pub activities: u64,
    /// True if nothing is left.
    pub complete: bool,
    /// A watermark that includes the deletions.
    pub watermark: Option<Watermark>,
}

impl Erase {
    /// Erases users of `db`.
    pub fn new(db: Database, clock: Clock, roll_up: RollUp) -> Erase {
        Erase { db, clock, roll_up }
    }

    /// Deletes the rows of the user, for at most `time`. Counted rows are committed.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], and [`Error::Unavailable`]: slices before the failed one stay deleted.
    pub async fn erase(&self, input: &Erasure, time: Duration) -> Result<Erased> {
        #[cfg(debug_assertions)]
        if crate::broken::is("erases-nothing") {
            return Ok(Erased { complete: true, ..Erased::default() });
        }
        let began = Instant::now();
        // A deleted activity can no longer be counted, so statistics are brought up to date first.
        // A locked figure does not prevent the erasure.
        let mut counting = Budget::new(time / 2);
        let settled = match self.roll_up.settle(&input.tenant, || counting.allows()).await {
            // Damaged figures do not prevent the erasure.
            Err(Error::Internal(_)) => false,
            settled => settled?,
        };
        if !settled {
            tracing::warn!(tenant = %input.tenant, "activities of a user are erased before all are counted");
        }
        let mut budget = Budget::new(time.saturating_sub(began.elapsed()));
        let mut done = Erased::default();
        while !done.complete && budget.allows() {
            let first = !done.is_any();
            let mut slice = self.slice(input, first, true).await;
            // The slice is rolled back, so a retry is safe.
            if matches!(slice, Err(Error::Unavailable(Outage::Raced(_) | Outage::Locked(_)))) {
                slice = self.slice(input, first, true).await;
            }
            if matches!(slice, Err(Error::Unavailable(Outage::Locked(_)))) {
                // The figures of the tenant may be locked: the rest is deleted then, and a
                // repetition corrects the figures.
                done.add(&self.slice(input, first, false).await?);
                break;
            }
            done.add(&slice?);
        }
        done.watermark = Some(watermark::including(&self.db, done.watermark).await?);
        Ok(done)
    }

    /// The `first` slice that deletes something writes the activity in the same commit, so a call
    /// that is cut short leaves its record too. Only a slice that `settles` the figures can be
    /// complete.
    async fn slice(&self, input: &Erasure, first: bool, settles: bool) -> Result<Erased> {
        let erasing = self.db.transaction(async |tx| {
            let Erasure { tenant, user, .. } = input;
            // First of all, because background readers write rows of users under locks of their own.
            feed::hold(tx).await?;
            let was_known = erase::lock(tx, tenant, user, self.clock.now()).await?;
            let issued_until = revocations::forget(tx, tenant, user, SLICE as i64).await?;
            let mut changes = Changes::new(&self.clock);
            let now = changes.at();
            if is_new_request(tx, input, now).await? {
                changes.record_plain_request(input.request, tenant);
            }
            let mut erased = empty(tx, input).await?;
            erased.complete &= settles;
            if erased.complete {
                match roll_up::forget(tx, tenant, user, now).await {
                    Err(Error::Internal(cause)) => {
                        let cause = format!("{cause:#}");
                        tracing::error!(cause, %tenant, "the figures of the tenant still include an erased user");
                    }
                    forgotten => forgotten?,
                }
                erase::forget(tx, tenant, user).await?;
            }
            let says_so = first && (erased.is_any() || (was_known && erased.complete));
            // Replaces the revocations that named the user's sessions.
            if says_so || was_known && first || erased.sessions > 0 {
                let issued_until = issued_until.unwrap_or(now);
                changes.erase_user(tenant, user, &input.principal, says_so, issued_until);
            }
            changes.write(tx).await?;
            // Another replica may have erased what this one still caches.
            let subject = Subject::User(digest(tenant, user));
            tx.invalidate(Revocation::new(tenant.clone(), subject, now));
            Ok(erased)
        });
        let done = self.db.within(erasing).await?;
        Ok(Erased { watermark: done.watermark, ..done.answer })
    }
}

impl Erased {
    fn add(&mut self, slice: &Erased) {
        self.ended += slice.ended;
        self.sessions += slice.sessions;
        self.alerts += slice.alerts;
        self.activities += slice.activities;
        self.complete = slice.complete;
        self.watermark = self.watermark.max(slice.watermark);
    }

    fn count(&mut self, table: Table, gone: &Gone) {
        match table {
            Table::Sessions => {
                self.sessions += gone.rows;
                self.ended += gone.live;
            }
            Table::Alerts => self.alerts += gone.rows,
            Table::Activities => self.activities += gone.rows,
            Table::Devices | Table::Requests | Table::Memories => {}
            Table::CountedAlerts | Table::RollUps => {}
        }
    }

    fn is_any(&self) -> bool {
        self.sessions + self.alerts + self.activities > 0
    }
}

/// Empties one table after the other, until all are empty or the slice is full.
async fn empty(tx: &mut Transaction, input: &Erasure) -> Result<Erased> {
    let mut erased = Erased::default();
    let mut room = SLICE;
    for table in TABLES {
        loop {
            if room == 0 {
                return Ok(erased);
            }
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let gone = erase::slice(tx, *table, &input.tenant, &input.user, limit).await?;
            if gone.found == 0 {
                break;
            }
            erased.count(*table, &gone);
            room -= gone.found;
        }
    }
    erased.complete = true;
    Ok(erased)
}

/// True if there is a request id to record: this request has not been recorded yet.
async fn is_new_request(tx: &mut Transaction, input: &Erasure, now: Time) -> Result<bool> {
    let Some(request) = input.request else { return Ok(false) };
    match requests::before(tx, &input.tenant, request, now).await? {
        Some(known) if known.request == request => Ok(false),
        Some(_) => Err(Error::RequestIdReused),
        None => Ok(true),
    }
}
