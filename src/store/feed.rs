//! Reading `session_activities` in the order of their commits, and who has read how far.
//!
//! Positions are transaction ids, which each cluster counts by itself. A row that a dump brought names a transaction of
//! another cluster, or of this one before it was restored: it is of no transaction here, and counts as read.

use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::activity::Activity;
use crate::model::feed::{Horizon, Span};
use crate::store::Connection;
use crate::store::rows::activity::ActivityRow;
use crate::store::schema::session_activities;

/// A reader in the background, as `feed_consumers` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    Detect,
    Stats,
}

statement! {
    Now {} -> (Text, Nullable<Text>),
    "SELECT pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text"
}

statement! {
    /// The snapshot, and whether it shows rows beyond those that another one showed. Not `EXISTS` for what comes
    /// after a transaction: Postgres expects a third of all rows there, and may read them all to find the first.
    Glance { next: &'a str as Text, pending: &'a [String] as Array<Text> } -> (Text, Bool),
    "SELECT pg_current_snapshot()::text,
        (SELECT a.xid FROM session_activities a
            WHERE a.xid >= ?::xid8 AND a.xid < pg_snapshot_xmax(pg_current_snapshot())
            ORDER BY a.xid LIMIT 1) IS NOT NULL
        OR EXISTS (SELECT 1 FROM session_activities WHERE xid = ANY (?::xid8[]))"
}

statement! {
    /// The transaction of the row so many after a position.
    Ahead { from: &'a str as Text, limit: i64 as BigInt } -> Text,
    "SELECT a.xid::text FROM session_activities a
    WHERE a.xid >= ?::xid8 AND a.xid < pg_snapshot_xmax(pg_current_snapshot())
    ORDER BY a.xid OFFSET ? LIMIT 1"
}

statement! {
    /// Whether anything was committed since the consumer read; a glance that writes nothing. As in `Glance`.
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
    /// The two parts are disjoint: late transactions lie before the first. A row that its transaction wrote here says so
    /// twice, since Postgres keeps in `xmin` who inserted it.
    Read {
        first: &'a str as Text,
        end: &'a str as Text,
        without: &'a [String] as Array<Text>,
        late: &'a [String] as Array<Text>,
    } -> session_activities::SqlType,
    concat!(
        "SELECT ", activity_columns!(), " FROM session_activities
        WHERE xid >= ?::xid8 AND xid < ?::xid8 AND xid <> ALL (?::xid8[])
            AND xmin = xid::xid
        UNION ALL
        SELECT ", activity_columns!(), " FROM session_activities WHERE xid = ANY (?::xid8[])
            AND xmin = xid::xid"
    )
}

statement! {
    Claim { consumer: &'a str as Text } -> Text,
    "SELECT read_to FROM feed_consumers WHERE consumer = ? FOR NO KEY UPDATE SKIP LOCKED"
}

statement! {
    WaitAndClaim { consumer: &'a str as Text } -> Text,
    "SELECT read_to FROM feed_consumers WHERE consumer = ? FOR NO KEY UPDATE"
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
    Hold {} -> BigInt,
    "SELECT count(*) FROM (SELECT 1 FROM feed_consumers ORDER BY consumer FOR SHARE) held"
}

statement! {
    /// A cluster that this database was restored into may not have come so far.
    Rebase { at: Time as Timestamptz } -> BigInt,
    "WITH moved AS (
        UPDATE feed_consumers SET read_to = pg_current_snapshot()::text, updated_at = ?
        WHERE pg_snapshot_xmax(read_to::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())
        RETURNING 1
    )
    SELECT count(*) FROM moved"
}

/// Everything that has committed by now.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn now(conn: &mut Connection) -> Result<Horizon> {
    let (snapshot, own): (String, Option<String>) = Now::new().get_result(conn).await?;
    let now = horizon(&snapshot)?;
    Ok(match own {
        // Postgres leaves a transaction out of its own snapshots, but what it writes is still to come.
        Some(own) => now.without(own.parse().map_err(|_| corrupt(&own))?),
        None => now,
    })
}

/// True if something was committed since the consumer read.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn is_unread(conn: &mut Connection, consumer: Consumer) -> Result<bool> {
    Ok(Unread::new(consumer.name(), consumer.name()).get_result(conn).await?)
}

/// The activities committed since `from`, in the order in which they happened, and where to go on.
/// At most `limit`, and what the last transaction among them holds besides, so that a span is
/// never part of a transaction.
///
/// # Errors
/// [`Error::Unavailable`]; [`Error::Internal`] if `from` lies in the future of this database.
pub async fn read(
    conn: &mut Connection,
    from: Horizon,
    limit: u32,
) -> Result<(Span, Vec<Activity>)> {
    let to = now(conn).await?;
    read_until(conn, from, to, limit).await
}

/// The same, but nothing that `to` does not show.
///
/// # Errors
/// [`Error::Unavailable`]; [`Error::Internal`] if `to` was not taken after `from`.
pub async fn read_until(
    conn: &mut Connection,
    from: Horizon,
    mut to: Horizon,
    limit: u32,
) -> Result<(Span, Vec<Activity>)> {
    let next = from.next().to_string();
    let last = Ahead::new(&next, i64::from(limit)).get_result::<String>(conn).await.optional()?;
    if let Some(last) = last {
        to = to.cut(last.parse().map_err(|_| corrupt(&last))?);
    }
    let span = Span::new(from, to).ok_or_else(|| corrupt(&next))?;
    let activities = span_of(conn, &span).await?;
    Ok((span, activities))
}

/// Everything that has committed by now, and whether activities are in it that `seen` does not show; a glance
/// that writes nothing.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn glance(conn: &mut Connection, seen: &Horizon) -> Result<(Horizon, bool)> {
    let pending: Vec<String> = seen.pending().iter().map(u64::to_string).collect();
    let next = seen.next().to_string();
    let (snapshot, news): (String, bool) = Glance::new(&next, &pending).get_result(conn).await?;
    Ok((horizon(&snapshot)?, news))
}

/// The activities of a span, in the order in which they happened; one that makes no sense is left out
/// and logged. The same span always gives the same, unless retention or an erasure came between.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn span_of(conn: &mut Connection, span: &Span) -> Result<Vec<Activity>> {
    let texts = |xids: &[u64]| xids.iter().map(u64::to_string).collect::<Vec<_>>();
    let (first, end) = (span.first().to_string(), span.end().to_string());
    let (without, late) = (texts(span.without()), texts(&span.late()));
    if span.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<ActivityRow> = Read::new(&first, &end, &without, &late).load(conn).await?;
    // A damaged row must not keep all that follow from being read.
    let sound = |row| {
        Activity::try_from(row)
            .inspect_err(|error| tracing::error!(%error, "an activity cannot be read"))
    };
    let mut activities: Vec<Activity> =
        rows.into_iter().filter_map(|row| sound(row).ok()).collect();
    activities.sort_by_key(|activity| (activity.occurred_at, activity.id));
    Ok(activities)
}

/// How far this consumer has read, locked until the transaction ends; `None` while another replica
/// reads. What is read in later statements includes all that was committed before the claim.
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

/// What was decided before about this moment the consumer has read, unless its transaction was still open;
/// at most `now`, the time of the call.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn read_through(conn: &mut Connection, consumer: Consumer, now: Time) -> Result<Time> {
    if !is_unread(conn, consumer).await? {
        return Ok(now);
    }
    let read_at: Time = ReadAt::new(consumer.name()).get_result(conn).await?;
    Ok(read_at.min(now))
}

/// Writes how far the consumer has read, in the transaction that holds what came of it.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn advance(
    conn: &mut Connection,
    consumer: Consumer,
    to: &Horizon,
    now: Time,
) -> Result<()> {
    match Advance::new(&to.to_string(), now, consumer.name()).get_result::<i64>(conn).await? {
        1 => Ok(()),
        _ => Err(Error::Internal(anyhow::anyhow!("no row in feed_consumers to advance"))),
    }
}

/// Keeps all consumers from reading until the transaction ends, after what they are at has committed.
/// Several may hold them at once.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn hold(conn: &mut Connection) -> Result<()> {
    Hold::new().get_result::<i64>(conn).await?;
    Ok(())
}

/// Has consumers go on from now whose position lies ahead of this cluster, since the database was restored. How many.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn rebase(conn: &mut Connection, now: Time) -> Result<i64> {
    Ok(Rebase::new(now).get_result(conn).await?)
}

impl Consumer {
    fn name(self) -> &'static str {
        match self {
            Consumer::Detect => "detect",
            Consumer::Stats => "stats",
        }
    }
}

pub(super) fn horizon(snapshot: &str) -> Result<Horizon> {
    snapshot.parse().map_err(|()| corrupt(snapshot))
}

fn corrupt(position: &str) -> Error {
    Error::Internal(anyhow::anyhow!("{position} is no position in this database's activities"))
}
