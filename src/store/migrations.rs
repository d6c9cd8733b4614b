//! The migrations, embedded in the binary, run one replica at a time.

use diesel::sql_types::{BigInt, Bool};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::clock::Time;
use crate::error::Result;
use crate::store::pool::Database;
use crate::store::{feed, partitions};

/// An arbitrary number that names the lock around a run.
const LOCK: i64 = 7_305_804_402;

statement! {
    TryLock { lock: i64 as BigInt } -> Bool, "SELECT pg_try_advisory_lock(?)"
}
statement! {
    /// By its name in diesel, whose own look would create the table.
    HasTable {} -> Bool, "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL"
}
statement! {
    Unlock { lock: i64 as BigInt } -> Bool, "SELECT pg_advisory_unlock(?)"
}

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// True if all migrations have run. Writes nothing.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn are_done(db: &Database) -> Result<bool> {
    let mut conn = db.dedicated().await?;
    if !HasTable::new().get_result::<bool>(&mut conn).await? {
        return Ok(false);
    }
    let mut harness = AsyncMigrationHarness::new(conn);
    let pending = harness.has_pending_migration(MIGRATIONS);
    Ok(!pending.map_err(|error| anyhow::anyhow!("migrations cannot be read: {error}"))?)
}

/// Brings the database up to date, creates the partitions that `now` needs, and returns the
/// versions that were applied.
///
/// Replicas that start together wait for each other: diesel takes no lock, so an advisory one
/// stands around the run. It ends with the connection at the latest.
///
/// # Errors
/// [`crate::error::Error::Unavailable`], or `Internal` with the failing migration.
pub async fn run(db: &Database, now: Time) -> Result<Vec<String>> {
    let mut conn = db.dedicated().await?;
    // Polled: a statement that waits would hold a snapshot, for which an index that another
    // replica builds concurrently would wait in turn.
    while !TryLock::new(LOCK).get_result::<bool>(&mut conn).await? {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut harness = AsyncMigrationHarness::new(conn);
    let applied = harness
        .run_pending_migrations(MIGRATIONS)
        .map(|versions| versions.iter().map(ToString::to_string).collect())
        .map_err(|error| anyhow::anyhow!("migration failed: {error}"));
    // A pooler may keep the server's side of the connection, and the lock with it.
    let mut conn = harness.into_inner();
    if applied.is_ok() {
        // The default partition takes rows of a missing month, so a failure here must not stop the start.
        if let Err(error) = partitions::create_ahead(&mut conn, now).await {
            tracing::warn!(%error, "partitions could not be created ahead");
        }
        let consumers = feed::rebase(&mut conn, now).await?;
        if consumers > 0 {
            tracing::warn!(
                consumers,
                "positions of another cluster forgotten: the database was restored"
            );
        }
    }
    Unlock::new(LOCK).get_result::<bool>(&mut conn).await?;
    Ok(applied?)
}
