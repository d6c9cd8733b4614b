//! Statistics: counts new activities, each once, hour by hour. A batch is one transaction: position and
//! figures move together or not at all.

mod books;

use std::sync::Arc;

use prometheus::IntCounter;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::feed::Horizon;
use crate::model::ids::{TenantId, UserId};
use crate::model::session::EndReason;
use crate::model::statistics::{Owner, hour_of, is_counted};
use crate::session::batch_size::BatchSize;
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
    size: Arc<BatchSize>,
    passed_over: IntCounter,
}

/// How a batch is taken.
#[derive(Clone, Copy)]
enum Take<'a> {
    /// Unless another replica is at it.
    Free,
    /// Waiting for others, until all that a horizon shows is counted.
    UpTo(&'a Horizon),
    /// Unless another replica is at it, and counting nothing.
    PassOver,
}

impl RollUp {
    /// Counts the activities of `db`.
    pub fn new(db: Database, clock: Clock, passed_over: IntCounter) -> RollUp {
        RollUp { db, clock, size: Arc::new(BatchSize::new(BATCH)), passed_over }
    }

    /// Counts one batch and returns true if more may be there. While another replica is at it, there is
    /// nothing to do.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing was done, and the next call begins at the same place.
    pub async fn batch(&self) -> Result<bool> {
        let size = self.size.now();
        match self.db.within(self.attempt(size, Take::Free)).await {
            Ok(more) => {
                self.size.grow(size);
                Ok(more)
            }
            Err(error) if self.size.shrink(size, &error) => Ok(true),
            // It would be the same again for ever, and nothing behind it would be counted.
            Err(error @ Error::Internal(_)) => {
                tracing::error!(%error, "statistics pass over an activity");
                let more = self.db.within(self.attempt(size, Take::PassOver)).await?;
                self.passed_over.inc();
                Ok(more)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts until all that was committed before the call is counted, or `go_on` says no. What is written meanwhile is
    /// not waited for.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: some of it may be counted.
    pub async fn settle(&self, mut go_on: impl FnMut() -> bool) -> Result<()> {
        let looking = async { feed::now(&mut *self.db.acquire().await?).await };
        let before = self.db.within(looking).await?;
        loop {
            let size = self.size.now();
            let more = match self.db.within(self.attempt(size, Take::UpTo(&before))).await {
                // Others are at it.
                Err(Error::Unavailable(Outage::Locked(_))) => true,
                Err(error) if self.size.shrink(size, &error) => true,
                other => other?,
            };
            if !more || !go_on() {
                return Ok(());
            }
        }
    }

    async fn attempt(&self, size: u32, take: Take<'_>) -> Result<bool> {
        // Claiming is a write: an idle database must stay idle.
        if !feed::is_unread(&mut *self.db.acquire().await?, Consumer::Stats).await? {
            return Ok(false);
        }
        let mut tx = self.db.begin().await?;
        let claimed = match take {
            Take::UpTo(_) => Some(feed::wait_and_claim(&mut tx, Consumer::Stats).await?),
            Take::Free | Take::PassOver => feed::claim(&mut tx, Consumer::Stats).await?,
        };
        let is_done = |from: &Horizon| matches!(take, Take::UpTo(end) if from.covers(end));
        let Some(from) = claimed.filter(|from| !is_done(from)) else {
            tx.commit().await?;
            return Ok(false);
        };
        let now = self.clock.now();
        let (span, activities) = feed::read(&mut tx, from, size).await?;
        let more = activities.len() >= size as usize;
        // Read in the order of commits, counted in the order of time: about here.
        let last = activities.last().map(|activity| activity.occurred_at);
        let read_at = last.filter(|_| more).map_or(now, |last| last.min(now));
        let counted: Vec<_> = activities.into_iter().filter(is_counted).collect();
        if !counted.is_empty() && !matches!(take, Take::PassOver) {
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
