//! Retention of old rows, and creation of partitions for new ones. Deletes nothing while time is in doubt.

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

/// How long a network is kept after its last activity: longer than the window of any rule.
const NETWORKS_FOR: Duration = Duration::hours(24);

/// How long a revocation is kept after its expiry: far longer than a replica lags behind the feed. A replica that was
/// cut off reconnects, and then invalidates its whole cache.
const REVOCATIONS_FOR: Duration = Duration::hours(1);

/// How long the statistics of a user are kept.
const USER_FIGURES_FOR: Duration = Duration::days(93);

/// How long the statistics of a tenant are kept.
const TENANT_FIGURES_FOR: Duration = Duration::days(400);

/// Applies retention to the tables.
pub struct Retain {
    db: Database,
    clock: Clock,
    activities_for: std::time::Duration,
    strays: Arc<Mutex<Strays>>,
    sizes: Sizes,
}

/// The slice size of each table.
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

    /// Creates the next partitions.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn create_partitions(&self) -> Result<()> {
        let now = self.clock.now();
        self.db
            .within(async { partitions::create_ahead(&mut *self.db.acquire().await?, now).await })
            .await
    }

    /// Drops one month of the audit trail that is past its retention; true if more may be pending.
    /// A month that a background reader has not read to the end stays.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`], also if a call holds a row of the table longer than the lock timeout.
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

    /// Deletes one slice of activities without a partition that are past their retention; true if more may be pending.
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

    /// Counts the activities without a partition, and logs a changed number.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn count_strays(&self) -> Result<()> {
        let counting = async { partitions::strays(&mut *self.db.acquire().await?).await };
        let found = self.db.within(counting).await?;
        let before = std::mem::replace(&mut *lock(&self.strays), found);
        if let Some((first, last)) = found.span.filter(|_| found != before) {
            let count = found.count;
            tracing::warn!(count, %first, %last, "activities without a partition: a clock was wrong once");
        }
        Ok(())
    }

    /// Deletes one slice of request ids older than 24 hours; true if more may be pending.
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

    /// Deletes one slice of revocations whose tokens have all expired; true if more may be pending.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn prune_revocations(&self) -> Result<bool> {
        let Some(now) = self.clock.settled() else { return Ok(false) };
        let before = now - REVOCATIONS_FOR;
        self.slice(&self.sizes.revocations, async |limit| {
            revocations::prune(&mut *self.db.acquire().await?, before, limit).await
        })
        .await
    }

    /// Deletes one slice of networks without activity for 24 hours; true if more may be pending.
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

    /// Deletes one slice of statistics past their retention; true if more may be pending.
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

    /// Deletes at most as many rows as `size` says, and fewer at the next call after a failure.
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

    /// The start of the retention period; `None` if there is none, or time is in doubt.
    fn kept_from(&self) -> Option<Time> {
        let kept = Duration::from_std(self.activities_for).unwrap_or(Duration::MAX);
        self.clock.settled()?.checked_sub_signed(kept)
    }
}

fn lock(strays: &Mutex<Strays>) -> MutexGuard<'_, Strays> {
    strays.lock().unwrap_or_else(PoisonError::into_inner)
}
