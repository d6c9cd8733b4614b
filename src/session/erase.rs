//! EraseUser: deletes everything of a user, in slices.
//!
//! Each slice is a transaction under the lock of the user that creates take, so a create comes out
//! either before it, and goes with the rest, or after the last, as that of a new user. Within it the
//! order of the tables decides: sessions go first, and deleting one waits for whoever has it locked. So
//! once none is left, every refresh, end or expiry has committed what it wrote, nobody can begin
//! another, and what they left lies in the tables that follow. The same holds for alerts and those who
//! work on them, and for reports, which hold the user or the session they name. Then goes the audit trail,
//! which all of them write, and last what was counted from it. A new kind of writer of a user's rows must
//! lock the user, or a row of a table before those that it writes.

use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::revocation::{Revocation, Subject, digest};
use crate::session::roll_up::{self, RollUp};
use crate::session::terminate_many::budget::Budget;
use crate::store::changes::Changes;
use crate::store::erase::{self, Gone, TABLES, Table};
use crate::store::pool::{Database, Transaction};
use crate::store::{feed, requests, revocations};

/// Rows per transaction: short locks, and little lost if one fails.
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
    /// Who calls.
    pub principal: String,
}

/// What was deleted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Sessions that had not ended.
    pub ended: u64,
    pub sessions: u64,
    pub alerts: u64,
    pub activities: u64,
    /// Nothing is left.
    pub complete: bool,
}

impl Erase {
    /// Erases users of `db`.
    pub fn new(db: Database, clock: Clock, roll_up: RollUp) -> Erase {
        Erase { db, clock, roll_up }
    }

    /// Deletes what is there of the user, for as long as `time` lasts. What is counted is final.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], and [`Error::Unavailable`]: slices before the one that failed
    /// stay deleted.
    pub async fn erase(&self, wish: &Erasure, time: Duration) -> Result<Erased> {
        #[cfg(feature = "broken")]
        if crate::broken::is("erases-nothing") {
            return Ok(Erased { complete: true, ..Erased::default() });
        }
        let mut budget = Budget::new(time);
        let mut done = Erased::default();
        // What is deleted can no longer be counted.
        self.roll_up.settle(|| budget.allows()).await?;
        while !done.complete && budget.allows() {
            let first = !done.is_any();
            let slice = match self.slice(wish, first).await {
                // Rolled back as a whole: once more is safe.
                Err(Error::Unavailable(Outage::Raced(_) | Outage::Locked(_))) => {
                    self.slice(wish, first).await?
                }
                other => other?,
            };
            done.add(&slice);
        }
        Ok(done)
    }

    async fn slice(&self, wish: &Erasure, first: bool) -> Result<Erased> {
        self.db.within(self.attempt(wish, first)).await
    }

    /// The `first` slice that deletes something says so, in the same commit: a call that is cut short
    /// leaves its line too.
    async fn attempt(&self, wish: &Erasure, first: bool) -> Result<Erased> {
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        // First of all: readers in the background write rows of users under the lock of their own.
        feed::hold(&mut tx).await?;
        let was_known = erase::lock(&mut tx, &wish.tenant, &wish.user, now).await?;
        let mut changes = Changes::default();
        changes.remembered.extend(new_request(&mut tx, wish, now).await?);
        revocations::forget(&mut tx, &wish.tenant, &wish.user, SLICE as i64).await?;
        let erased = empty(&mut tx, wish).await?;
        if erased.complete {
            roll_up::forget(&mut tx, &wish.tenant, &wish.user, now).await?;
            erase::forget(&mut tx, &wish.tenant, &wish.user).await?;
        }
        if first && (erased.is_any() || (was_known && erased.complete)) {
            changes.activities.push(self.activity(wish, now));
        }
        // In place of what named its sessions.
        if was_known && first || erased.sessions > 0 {
            let user = Subject::User(digest(&wish.tenant, &wish.user));
            changes.revoked.push(Revocation::new(wish.tenant.clone(), user, now));
        }
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(erased)
    }

    /// That a user was erased, when and by whom, but not who.
    fn activity(&self, wish: &Erasure, now: Time) -> Activity {
        let kind = ActivityKind::UserErased;
        Activity::new(self.clock.new_id(), now, kind, &wish.principal, &wish.tenant, None)
    }
}

impl Erased {
    fn add(&mut self, slice: &Erased) {
        self.ended += slice.ended;
        self.sessions += slice.sessions;
        self.alerts += slice.alerts;
        self.activities += slice.activities;
        self.complete = slice.complete;
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

/// Empties table after table, until all are or the slice is full.
async fn empty(tx: &mut Transaction, wish: &Erasure) -> Result<Erased> {
    let mut erased = Erased::default();
    let mut room = SLICE;
    for table in TABLES {
        loop {
            if room == 0 {
                return Ok(erased);
            }
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let gone = erase::slice(tx, *table, &wish.tenant, &wish.user, limit).await?;
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

/// The request id to remember, without the user; `None` if there is none, or this very request is
/// known.
async fn new_request(
    tx: &mut Transaction,
    wish: &Erasure,
    now: Time,
) -> Result<Option<Remembered>> {
    let Some(request) = wish.request else { return Ok(None) };
    let known = requests::find(tx, &[(&wish.tenant, request.id)]).await?;
    match known.into_iter().find(|known| known.holds_at(now)) {
        Some(known) if known.request == request => Ok(None),
        Some(_) => Err(Error::RequestIdReused),
        None => Ok(Some(Remembered {
            tenant: wish.tenant.clone(),
            request,
            user: None,
            subject: None,
            related: Vec::new(),
            at: now,
        })),
    }
}
