//! Reading `session_activities` in the order of their commits.
//!
//! Positions are transaction ids, which each cluster counts by itself. A row that a dump brought names a transaction of
//! another cluster, or of this one before it was restored: it belongs to no transaction here, and counts as read.

pub mod aside;

mod consumers;

use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};
use diesel_async::RunQueryDsl;

use crate::error::{Error, Result};
use crate::model::activity::Activity;
use crate::model::feed::{Horizon, Span};
use crate::store::Connection;
use crate::store::rows::activity::ActivityRow;
use crate::store::rows::found::{Found, sound};
use crate::store::schema::session_activities;

pub use consumers::{
    Consumer, advance, claim, hold, is_unread, read_through, rebase, wait_and_claim,
};

statement! {
    Now {} -> (Text, Nullable<Text>),
    "SELECT pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text"
}

statement! {
    /// The snapshot, and whether it shows rows beyond those that another one showed. Not `EXISTS` for rows after a
    /// transaction: Postgres expects a third of all rows there, and may read them all to find the first.
    Glance { next: &'a str as Text, pending: &'a [String] as Array<Text> } -> (Text, Bool),
    "SELECT pg_current_snapshot()::text,
        (SELECT a.xid FROM session_activities a
            WHERE a.xid >= ?::xid8 AND a.xid < pg_snapshot_xmax(pg_current_snapshot())
            ORDER BY a.xid LIMIT 1) IS NOT NULL
        OR EXISTS (SELECT 1 FROM session_activities WHERE xid = ANY (?::xid8[]))"
}

statement! {
    /// The transaction of the row that follows so many rows after a position.
    Ahead { from: &'a str as Text, limit: i64 as BigInt } -> Text,
    "SELECT a.xid::text FROM session_activities a
    WHERE a.xid >= ?::xid8 AND a.xid < pg_snapshot_xmax(pg_current_snapshot())
    ORDER BY a.xid OFFSET ? LIMIT 1"
}

statement! {
    /// The two parts are disjoint: late transactions lie before the first. A row that was written here has its
    /// transaction twice, since Postgres keeps the inserting one in `xmin`.
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

/// Everything that has committed by now.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn now(conn: &mut Connection) -> Result<Horizon> {
    let (snapshot, own): (String, Option<String>) = Now::new().get_result(conn).await?;
    let now = horizon(&snapshot)?;
    Ok(match own {
        // Postgres omits a transaction from its own snapshots, but its rows are still to be committed.
        Some(own) => now.without(own.parse().map_err(|_| corrupt(&own))?),
        None => now,
    })
}

/// The activities committed since `from`, in the order in which they happened, and the next position. At most `limit`,
/// at least 1, and what the last transaction among them holds besides, so that a span is never part of a transaction;
/// and those that were open at `from`.
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
    let last =
        Ahead::new(&next, i64::from(limit) - 1).get_result::<String>(conn).await.optional()?;
    if let Some(last) = last {
        to = to.cut(last.parse().map_err(|_| corrupt(&last))?);
    }
    let span = Span::new(from, to).ok_or_else(|| corrupt(&next))?;
    let activities = span_of(conn, &span).await?;
    Ok((span, activities))
}

/// Everything that has committed by now, and whether it has activities that `seen` does not show. Read-only.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn glance(conn: &mut Connection, seen: &Horizon) -> Result<(Horizon, bool)> {
    let pending: Vec<String> = seen.pending().iter().map(u64::to_string).collect();
    let next = seen.next().to_string();
    let (snapshot, more): (String, bool) = Glance::new(&next, &pending).get_result(conn).await?;
    Ok((horizon(&snapshot)?, more))
}

/// The activities of a span, in the order in which they happened; a damaged one is skipped and logged. The same span
/// always gives the same, unless retention or an erasure came between.
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
    let read = Read::new(&first, &end, &without, &late);
    let (mut activities, _): (Vec<Activity>, _) =
        sound(read.load::<Found<ActivityRow>>(conn).await?);
    activities.sort_by_key(|activity| (activity.occurred_at, activity.id));
    Ok(activities)
}

pub(super) fn horizon(snapshot: &str) -> Result<Horizon> {
    snapshot.parse().map_err(|()| corrupt(snapshot))
}

fn corrupt(position: &str) -> Error {
    Error::Internal(anyhow::anyhow!("{position} is no position in this database's activities"))
}
