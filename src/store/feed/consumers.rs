//! The positions of the background readers: one row in `feed_consumers` for each.

use diesel::prelude::OptionalExtension;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::feed::Horizon;
use crate::store::Connection;
use crate::store::feed::{aside, horizon};

/// A background reader, as `feed_consumers` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    Detect,
    Stats,
}

statement! {
    /// Whether anything was committed since the consumer read; read-only. As in `Glance`.
    Unread { after: &'a str as Text, late: &'a str as Text } -> Bool,
    "SELECT (
        SELECT a.xid FROM session_activities a WHERE a.xid >= (
            SELECT pg_snapshot_xmax(read_to::pg_snapshot) FROM feed_consumers WHERE consumer = ?
        ) AND a.xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY a.xid LIMIT 1
    ) IS NOT NULL OR EXISTS (
        SELECT 1 FROM session_activities WHERE xid = ANY (ARRAY(
            SELECT pg_snapshot_xip(read_to::pg_snapshot) FROM feed_consumers WHERE consumer = ?
        ))
    )"
}

statement! {
    Claim { consumer: &'a str as Text } -> Text,
    "SELECT read_to FROM feed_consumers WHERE consumer = ? FOR NO KEY UPDATE SKIP LOCKED"
}

statement! {
    /// Waits in a queue with the transactions that hold all consumers. Overlapping shared locks of a row would keep
    /// every other transaction from it, while an advisory lock is granted in turn.
    WaitAndClaim { consumer: &'a str as Text } -> Text,
    "SELECT c.read_to FROM (SELECT pg_advisory_xact_lock(7310868735421) OFFSET 0) gate, feed_consumers c
    WHERE c.consumer = ? FOR NO KEY UPDATE OF c"
}

statement! {
    /// After a quiet time the first row that is unread is younger than the position.
    ReadAt { consumer: &'a str as Text } -> Timestamptz,
    "SELECT greatest(c.updated_at, (
        SELECT a.occurred_at FROM session_activities a
        WHERE a.xid >= pg_snapshot_xmax(c.read_to::pg_snapshot)
            AND a.xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY a.xid LIMIT 1
    )) FROM feed_consumers c WHERE c.consumer = ?"
}

statement! {
    Advance { to: &'a str as Text, at: Time as Timestamptz, consumer: &'a str as Text } -> BigInt,
    "WITH moved AS (
        UPDATE feed_consumers SET read_to = ?, updated_at = ? WHERE consumer = ? RETURNING 1
    )
    SELECT count(*) FROM moved"
}

statement! {
    /// The lock is that of `WaitAndClaim`. What is set aside is written only under the lock of the consumer's own row.
    Hold {} -> BigInt,
    "SELECT count(*) FROM (
        SELECT 1 FROM (SELECT pg_advisory_xact_lock_shared(7310868735421) OFFSET 0) gate, feed_consumers c
        WHERE c.consumer IN ('detect', 'stats') ORDER BY c.consumer FOR SHARE OF c
    ) held"
}

statement! {
    /// A cluster that this database was restored into may be at an earlier transaction.
    Rebase { at: Time as Timestamptz } -> BigInt,
    "WITH moved AS (
        UPDATE feed_consumers SET read_to = pg_current_snapshot()::text, updated_at = ?
        WHERE pg_snapshot_xmax(read_to::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())
        RETURNING 1
    )
    SELECT count(*) FROM moved"
}

/// True if something was committed since the consumer read.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn is_unread(conn: &mut Connection, consumer: Consumer) -> Result<bool> {
    Ok(Unread::new(consumer.name(), consumer.name()).get_result(conn).await?)
}

/// The position of this consumer, locked until the transaction ends; `None` while another replica reads. What is read
/// in later statements includes all that was committed before the claim.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn claim(conn: &mut Connection, consumer: Consumer) -> Result<Option<Horizon>> {
    let found: Option<String> = Claim::new(consumer.name()).get_result(conn).await.optional()?;
    found.map(|position| horizon(&position)).transpose()
}

/// The same, but waits while another replica reads.
///
/// # Errors
/// [`Error::Unavailable`], with [`crate::error::Outage::Locked`] if that takes too long.
pub async fn wait_and_claim(conn: &mut Connection, consumer: Consumer) -> Result<Horizon> {
    horizon(&WaitAndClaim::new(consumer.name()).get_result::<String>(conn).await?)
}

/// The consumer has read about everything that was decided before this moment, unless its transaction was still open;
/// at most `now`, the time of the call.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn read_through(conn: &mut Connection, consumer: Consumer, now: Time) -> Result<Time> {
    let aside = aside::oldest(conn, consumer).await?.unwrap_or(now).min(now);
    if !is_unread(conn, consumer).await? {
        return Ok(aside);
    }
    let read_at: Time = ReadAt::new(consumer.name()).get_result(conn).await?;
    Ok(read_at.min(aside))
}

/// Stores the position of the consumer, in the transaction that stores its results.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn advance(
    conn: &mut Connection,
    consumer: Consumer,
    to: &Horizon,
    now: Time,
) -> Result<()> {
    move_to(conn, consumer.name(), to, now).await
}

/// Moves the row of this name.
pub(super) async fn move_to(
    conn: &mut Connection,
    name: &str,
    to: &Horizon,
    now: Time,
) -> Result<()> {
    match Advance::new(&to.to_string(), now, name).get_result::<i64>(conn).await? {
        1 => Ok(()),
        _ => Err(Error::Internal(anyhow::anyhow!("no row in feed_consumers to advance"))),
    }
}

/// Keeps all consumers from reading until the transaction ends. Waits until their present batches have committed.
/// Several may hold them at once.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn hold(conn: &mut Connection) -> Result<()> {
    Hold::new().get_result::<i64>(conn).await?;
    Ok(())
}

/// Moves consumers to the present whose position lies ahead of this cluster, as after a restore. Returns how many.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn rebase(conn: &mut Connection, now: Time) -> Result<i64> {
    Ok(Rebase::new(now).get_result(conn).await?)
}

impl Consumer {
    /// Its name in `feed_consumers`.
    pub fn name(self) -> &'static str {
        match self {
            Consumer::Detect => "detect",
            Consumer::Stats => "stats",
        }
    }
}
