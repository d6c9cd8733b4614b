//! Statistics: counts new activities, each once, hour by hour. A batch is one transaction: position and
//! figures move together or not at all.

mod books;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::ids::{TenantId, UserId};
use crate::model::session::EndReason;
use crate::model::statistics::{Owner, hour_of, is_counted};
use crate::store::feed::{self, Consumer};
use crate::store::pool::Database;
use crate::store::{Connection, statistics};
use books::Books;

/// Activities per transaction, about.
const BATCH: u32 = 500;

/// Counts. Cheap to clone.
#[derive(Clone)]
pub struct RollUp {
    db: Database,
    clock: Clock,
}

impl RollUp {
    /// Counts the activities of `db`.
    pub fn new(db: Database, clock: Clock) -> RollUp {
        RollUp { db, clock }
    }

    /// Counts one batch and returns true if more may be there. While another replica is at it, there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing was done, and the next call begins at the same place.
    pub async fn batch(&self) -> Result<bool> {
        self.db.within(self.attempt(false)).await
    }

    /// Counts until all that was committed before the call is counted, or `go_on` says no.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some of it may be counted.
    pub async fn settle(&self, mut go_on: impl FnMut() -> bool) -> Result<()> {
        loop {
            let more = match self.db.within(self.attempt(true)).await {
                // Others are at it.
                Err(Error::Unavailable(Outage::Locked(_))) => true,
                other => other?,
            };
            if !more || !go_on() {
                return Ok(());
            }
        }
    }

    async fn attempt(&self, wait: bool) -> Result<bool> {
        // Claiming is a write: an idle database must stay idle.
        if !feed::is_unread(&mut *self.db.acquire().await?, Consumer::Stats).await? {
            return Ok(false);
        }
        let mut tx = self.db.begin().await?;
        let claimed = match wait {
            true => Some(feed::wait_and_claim(&mut tx, Consumer::Stats).await?),
            false => feed::claim(&mut tx, Consumer::Stats).await?,
        };
        let Some(from) = claimed else {
            tx.commit().await?;
            return Ok(false);
        };
        let now = self.clock.now();
        let (span, activities) = feed::read(&mut tx, from, BATCH).await?;
        let more = activities.len() >= BATCH as usize;
        // Read in the order of commits, counted in the order of time: about here.
        let last = activities.last().map(|activity| activity.occurred_at);
        let read_at = last.filter(|_| more).map_or(now, |last| last.min(now));
        let counted: Vec<_> = activities.into_iter().filter(is_counted).collect();
        if !counted.is_empty() {
            let mut books = Books::open(&mut tx, &counted).await?;
            for activity in &counted {
                books.note(activity);
            }
            books.write(&mut tx).await?;
        }
        feed::advance(&mut tx, Consumer::Stats, span.to(), read_at).await?;
        tx.commit().await?;
        Ok(more)
    }
}

/// Takes what there is of an erased user from what there is of the tenant: live sessions as ended. The
/// caller holds the consumers, and has deleted what was counted of the user.
///
/// # Errors
/// [`Error::Unavailable`].
pub(super) async fn forget(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    now: Time,
) -> Result<()> {
    let Some(gone) = statistics::forget(conn, tenant, user).await? else { return Ok(()) };
    let (owner, hour) = (Owner { tenant: tenant.clone(), user: None }, hour_of(now));
    let mut books = Books::of(conn, [(owner.clone(), hour)].into()).await?;
    books.take(&owner, hour, gone, EndReason::UserErased);
    books.write(conn).await
}
