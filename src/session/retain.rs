//! How long things are kept, and where new ones go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Duration;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::store::partitions::Strays;
use crate::store::pool::Database;
use crate::store::statistics::figures;
use crate::store::{memories, partitions, requests, revocations};

/// Rows per transaction.
const SLICE: i64 = 500;

/// For how long a network is remembered after detection last noted something: longer than any rule
/// looks back.
const NETWORKS_FOR: Duration = Duration::hours(24);

/// For how long a revocation is kept beyond its time: a replica reads it late at most by how long it may know by heart
/// what is revoked.
const REVOCATIONS_FOR: Duration = Duration::hours(1);

/// For how long statistics of a user are kept.
const USER_FIGURES_FOR: Duration = Duration::days(93);

/// For how long those of a tenant are.
const TENANT_FIGURES_FOR: Duration = Duration::days(400);

/// Keeps tables in shape.
pub struct Retain {
    db: Database,
    clock: Clock,
    activities_for: std::time::Duration,
    strays: Arc<Mutex<Strays>>,
}

impl Retain {
    /// Works on `db`, and keeps the audit trail for `activities_for`.
    pub fn new(
        db: Database,
        clock: Clock,
        activities_for: std::time::Duration,
        metrics: &Metrics,
    ) -> Retain {
        let strays = Arc::<Mutex<Strays>>::default();
        let known = strays.clone();
        let help = "Activities, up to 10000, that lie in no month, as a clock was wrong once.";
        metrics.sampled("stray_activities", help, move || lock(&known).count as f64);
        Retain { db, clock, activities_for, strays }
    }

    /// Creates the partitions that will be needed next.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn create_partitions(&self) -> Result<()> {
        let now = self.clock.now();
        self.db
            .within(async { partitions::create_ahead(&mut *self.db.acquire().await?, now).await })
            .await
    }

    /// Drops one month of the audit trail that is older than it is kept; true if more may be there. A month that a
    /// reader in the background has not read to its end stays.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`], also while a call holds a row of the table for longer than others may
    /// wait.
    pub async fn drop_month(&self) -> Result<bool> {
        let Some(before) = self.kept_from() else { return Ok(false) };
        let dropping = async {
            let mut tx = self.db.begin().await?;
            let gone = partitions::drop_oldest(&mut tx, before).await?;
            tx.commit().await?;
            Ok(gone)
        };
        let gone = self.db.within(dropping).await?;
        if let Some(name) = &gone {
            tracing::info!(partition = name, "a month of the audit trail is past its time");
        }
        Ok(gone.is_some())
    }

    /// Deletes one slice of activities that no month covers and that are older than they are kept; true if more may be
    /// there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn drop_strays(&self) -> Result<bool> {
        let Some(before) = self.kept_from() else { return Ok(false) };
        let dropping =
            async { partitions::drop_strays(&mut *self.db.acquire().await?, before, SLICE).await };
        Ok(self.db.within(dropping).await? == SLICE)
    }

    /// Counts the activities that no month covers, and says so where their number changed.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn count_strays(&self) -> Result<()> {
        let counting = async { partitions::strays(&mut *self.db.acquire().await?).await };
        let found = self.db.within(counting).await?;
        let before = std::mem::replace(&mut *lock(&self.strays), found);
        if let Some((first, last)) = found.span.filter(|_| found != before) {
            let count = found.count;
            tracing::warn!(count, %first, %last, "activities lie in no month: a clock was wrong once");
        }
        Ok(())
    }

    /// Forgets one slice of request ids older than 24 hours; true if more may be there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_slice(&self) -> Result<bool> {
        let now = self.clock.now();
        let gone = self
            .db
            .within(async { requests::prune(&mut *self.db.acquire().await?, now, SLICE).await })
            .await?;
        Ok(gone == SLICE as usize)
    }

    /// Forgets one slice of revocations of which no token can be in date; true if more may be there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_revocations(&self) -> Result<bool> {
        // Whoever was cut off for so long has forgotten everything by now.
        let before = self.clock.now() - REVOCATIONS_FOR;
        let pruning =
            async { revocations::prune(&mut *self.db.acquire().await?, before, SLICE).await };
        Ok(self.db.within(pruning).await? == SLICE)
    }

    /// Forgets one slice of networks of which nothing was noted for 24 hours; true if more may be
    /// there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn forget_slice(&self) -> Result<bool> {
        let before = self.clock.now() - NETWORKS_FOR;
        let gone = self
            .db
            .within(async { memories::prune(&mut *self.db.acquire().await?, before, SLICE).await })
            .await?;
        Ok(gone == SLICE as usize)
    }

    /// Forgets one slice of statistics older than they are kept; true if more may be there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_figures(&self) -> Result<bool> {
        let now = self.clock.now();
        let (users, tenants) = (now - USER_FIGURES_FOR, now - TENANT_FIGURES_FOR);
        let pruning =
            async { figures::prune(&mut *self.db.acquire().await?, users, tenants, SLICE).await };
        Ok(self.db.within(pruning).await? == SLICE as usize)
    }

    /// What happened before is past its time; `None` = nothing is.
    fn kept_from(&self) -> Option<Time> {
        let kept = Duration::from_std(self.activities_for).unwrap_or(Duration::MAX);
        self.clock.now().checked_sub_signed(kept)
    }
}

fn lock(strays: &Mutex<Strays>) -> MutexGuard<'_, Strays> {
    strays.lock().unwrap_or_else(PoisonError::into_inner)
}
