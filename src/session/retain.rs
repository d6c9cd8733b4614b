//! How long things are kept, and where new ones go. While time is in doubt nothing is deleted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Duration;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::session::batch_size::BatchSize;
use crate::store::partitions::Strays;
use crate::store::pool::Database;
use crate::store::statistics::figures;
use crate::store::{memories, partitions, requests, revocations};

/// Rows per transaction.
const SLICE: u32 = 500;

/// For how long a network is remembered after detection last noted something: longer than any rule
/// looks back.
const NETWORKS_FOR: Duration = Duration::hours(24);

/// For how long a revocation is kept beyond its time: a replica reads it late at most by how long it may have cached
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
    sizes: Sizes,
}

/// Of the slices of each table.
struct Sizes {
    strays: BatchSize,
    requests: BatchSize,
    revocations: BatchSize,
    networks: BatchSize,
    figures: BatchSize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        let size = || BatchSize::new(SLICE);
        Sizes {
            strays: size(),
            requests: size(),
            revocations: size(),
            networks: size(),
            figures: size(),
        }
    }
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
        Retain { db, clock, activities_for, strays, sizes: Sizes::default() }
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
        self.slice(&self.sizes.strays, async |limit| {
            partitions::drop_strays(&mut *self.db.acquire().await?, before, limit).await
        })
        .await
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
        let Some(now) = self.clock.settled() else { return Ok(false) };
        self.slice(&self.sizes.requests, async |limit| {
            requests::prune(&mut *self.db.acquire().await?, now, limit).await
        })
        .await
    }

    /// Forgets one slice of revocations of which no token can be in date; true if more may be there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_revocations(&self) -> Result<bool> {
        let Some(now) = self.clock.settled() else { return Ok(false) };
        // A replica that was cut off for so long has emptied its cache by now.
        let before = now - REVOCATIONS_FOR;
        self.slice(&self.sizes.revocations, async |limit| {
            revocations::prune(&mut *self.db.acquire().await?, before, limit).await
        })
        .await
    }

    /// Forgets one slice of networks of which nothing was noted for 24 hours; true if more may be
    /// there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn forget_slice(&self) -> Result<bool> {
        let Some(now) = self.clock.settled() else { return Ok(false) };
        let before = now - NETWORKS_FOR;
        self.slice(&self.sizes.networks, async |limit| {
            memories::prune(&mut *self.db.acquire().await?, before, limit).await
        })
        .await
    }

    /// Forgets one slice of statistics older than they are kept; true if more may be there.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_figures(&self) -> Result<bool> {
        let Some(now) = self.clock.settled() else { return Ok(false) };
        let (users, tenants) = (now - USER_FIGURES_FOR, now - TENANT_FIGURES_FOR);
        self.slice(&self.sizes.figures, async |limit| {
            figures::prune(&mut *self.db.acquire().await?, users, tenants, limit).await
        })
        .await
    }

    /// Deletes at most as many rows as `size` says, and fewer at the next call if that was too much at once.
    async fn slice(
        &self,
        size: &BatchSize,
        delete: impl AsyncFnOnce(i64) -> Result<i64>,
    ) -> Result<bool> {
        let limit = size.now();
        match self.db.within(delete(limit.into())).await {
            Ok(gone) => {
                size.grow(limit);
                Ok(gone >= limit.into())
            }
            Err(error) if size.shrink(limit, &error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What happened before is past its time; `None` = nothing is, or time is in doubt.
    fn kept_from(&self) -> Option<Time> {
        let kept = Duration::from_std(self.activities_for).unwrap_or(Duration::MAX);
        self.clock.settled()?.checked_sub_signed(kept)
    }
}

fn lock(strays: &Mutex<Strays>) -> MutexGuard<'_, Strays> {
    strays.lock().unwrap_or_else(PoisonError::into_inner)
}
