//! Partitions of `session_activities`, one per month.

use chrono::{Datelike, Months, NaiveDate, NaiveTime};
use diesel::OptionalExtension;
use diesel::dsl::sql;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use crate::clock::Time;
use crate::error::Result;
use crate::store::Connection;

statement! {
    /// Names sort by their month.
    Oldest { end: &'a str as Text } -> Text,
    "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'session_activities'::regclass
        AND c.relname ~ '^session_activities_[0-9]{4}_[0-9]{2}$' AND c.relname < ?
    ORDER BY c.relname LIMIT 1"
}

statement! {
    Exists { name: &'a str as Text } -> Bool, "SELECT to_regclass(?) IS NOT NULL"
}

statement! {
    /// Reads no more than the limit.
    CountStrays { limit: i64 as BigInt } -> (BigInt, Nullable<Timestamptz>, Nullable<Timestamptz>),
    "SELECT count(*), min(occurred_at), max(occurred_at) FROM (
        SELECT occurred_at FROM session_activities_default LIMIT ?
    ) s"
}

statement! {
    StraysOf { from: Time as Timestamptz, to: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "SELECT count(*) FROM (
        SELECT 1 FROM session_activities_default WHERE occurred_at >= ? AND occurred_at < ? LIMIT ?
    ) s"
}

statement! {
    /// Whether a consumer of the feed has still to read one of a month. Once moved, none reads it any more: the transaction
    /// that wrote it is another then.
    UnreadStrays { from: Time as Timestamptz, to: Time as Timestamptz } -> Bool,
    "SELECT EXISTS (
        SELECT 1 FROM session_activities_default s JOIN feed_consumers c
            ON s.xid >= pg_snapshot_xmin(c.read_to::pg_snapshot) AND s.xmin = s.xid::xid
            AND NOT pg_visible_in_snapshot(s.xid, c.read_to::pg_snapshot)
        WHERE s.occurred_at >= ? AND s.occurred_at < ?
    )"
}

statement! {
    DropStrays { before: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "WITH gone AS (
        DELETE FROM session_activities_default WHERE ctid = ANY (ARRAY(
            SELECT s.ctid FROM session_activities_default s WHERE s.occurred_at < ?
                AND NOT EXISTS (SELECT 1 FROM feed_consumers c
                    WHERE s.xid >= pg_snapshot_xmin(c.read_to::pg_snapshot)
                    AND s.xmin = s.xid::xid
                    AND NOT pg_visible_in_snapshot(s.xid, c.read_to::pg_snapshot))
            LIMIT ? FOR UPDATE SKIP LOCKED
        ))
        RETURNING 1
    )
    SELECT count(*) FROM gone"
}

/// Rows that no month covers, because a clock was wrong when they were written. They are in the default partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strays {
    /// At most [`MAX_COUNTED`].
    pub count: usize,
    /// When the first and the last of those counted are said to have happened.
    pub span: Option<(Time, Time)>,
}

/// The most strays that are counted.
pub const MAX_COUNTED: usize = 10_000;
/// The most strays of a month that move into its partition: the table is locked against reads and writes meanwhile.
const MAX_MOVED: i64 = 5_000;

/// Creates the partitions of the month of `now`, the two that follow and the one before, which reports may
/// still reach, where they are missing. Strays of such a month move into it; of too many to move at once the month
/// stays in the default partition, where its rows are read and written as any other.
///
/// # Errors
/// Those of the database.
pub async fn create_ahead(conn: &mut Connection, now: Time) -> Result<()> {
    let this_month = now.date_naive().with_day(1).expect("every month has a first day");
    let ahead = (0..3).map(|ahead| this_month + Months::new(ahead));
    for first in ahead.chain([this_month - Months::new(1)]) {
        // Checked first: creating locks the table even if nothing is to be created.
        let there: bool = Exists::new(&name(first)).get_result(conn).await?;
        if !there {
            create_month(conn, first).await?;
        }
    }
    Ok(())
}

async fn create_month(conn: &mut Connection, first: NaiveDate) -> Result<()> {
    let start = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    let (from, to) = (start(first), start(first + Months::new(1)));
    let strays: i64 = StraysOf::new(from, to, MAX_MOVED + 1).get_result(conn).await?;
    let month = name(first);
    match strays {
        0 => conn.batch_execute(&create(first)).await?,
        1..=MAX_MOVED if UnreadStrays::new(from, to).get_result(conn).await? => {
            tracing::info!(
                partition = month,
                strays,
                "activities move into their month once they are read"
            );
        }
        1..=MAX_MOVED => {
            conn.batch_execute(&create_around(first)).await?;
            tracing::warn!(
                partition = month,
                strays,
                "activities ahead of their month moved into it"
            );
        }
        _ => tracing::warn!(
            partition = month,
            "more activities lie ahead of their month than can be moved; they stay in the default partition"
        ),
    }
    Ok(())
}

/// The rows in the default partition.
///
/// # Errors
/// Those of the database.
pub async fn strays(conn: &mut Connection) -> Result<Strays> {
    let (count, first, last): (i64, Option<Time>, Option<Time>) =
        CountStrays::new(MAX_COUNTED as i64).get_result(conn).await?;
    Ok(Strays { count: usize::try_from(count).unwrap_or(0), span: first.zip(last) })
}

/// Deletes at most `limit` rows of the default partition from before `before` that each consumer of the feed has read;
/// returns how many.
///
/// # Errors
/// Those of the database.
pub async fn drop_strays(conn: &mut Connection, before: Time, limit: i64) -> Result<i64> {
    Ok(DropStrays::new(before, limit).get_result(conn).await?)
}

/// Drops the oldest month that lies before the one of `before`, unless a consumer of the feed has still to read it.
/// Its name, if one was dropped.
///
/// # Errors
/// Those of the database; [`crate::error::Outage::Locked`] if the table cannot be locked within 100 ms.
pub async fn drop_oldest(conn: &mut Connection, before: Time) -> Result<Option<String>> {
    let end = name(before.date_naive());
    let found = Oldest::new(&end).get_result::<String>(conn).await.optional()?;
    let Some(month) = found else { return Ok(None) };
    // Writers queue behind the lock for as long as this waits for it. The name matches the pattern of partitions. Locks
    // the table before its partition, as every transaction does.
    conn.batch_execute(&format!(
        "SET LOCAL lock_timeout = '100ms'; LOCK TABLE ONLY session_activities; LOCK TABLE {month}"
    ))
    .await?;
    let unread = format!(
        "SELECT EXISTS (SELECT 1 FROM feed_consumers c JOIN {month} m
            ON m.xid >= pg_snapshot_xmin(c.read_to::pg_snapshot)
            AND m.xid < pg_snapshot_xmax(pg_current_snapshot()) AND m.xmin = m.xid::xid
            AND NOT pg_visible_in_snapshot(m.xid, c.read_to::pg_snapshot))"
    );
    if diesel::select(sql::<Bool>(&format!("({unread})"))).get_result::<bool>(conn).await? {
        return Ok(None);
    }
    conn.batch_execute(&format!("DROP TABLE {month}")).await?;
    Ok(Some(month))
}

fn name(first: NaiveDate) -> String {
    format!("session_activities_{}", first.format("%Y_%m"))
}

fn create(first: NaiveDate) -> String {
    let month = name(first);
    format!("CREATE TABLE IF NOT EXISTS {month} PARTITION OF session_activities {}", values(first))
}

/// Creates a month around its strays, as one transaction: no reader misses them or sees them twice.
fn create_around(first: NaiveDate) -> String {
    let (month, end) = (name(first), first + Months::new(1));
    format!(
        "BEGIN;
        LOCK TABLE ONLY session_activities IN SHARE UPDATE EXCLUSIVE MODE;
        LOCK TABLE session_activities_default;
        CREATE TABLE {month} (LIKE session_activities INCLUDING ALL);
        WITH strays AS (
            DELETE FROM session_activities_default
            WHERE occurred_at >= '{first} 00:00:00+00' AND occurred_at < '{end} 00:00:00+00'
            RETURNING *
        ) INSERT INTO {month} SELECT * FROM strays;
        ALTER TABLE session_activities ATTACH PARTITION {month} {};
        COMMIT",
        values(first)
    )
}

fn values(first: NaiveDate) -> String {
    let end = first + Months::new(1);
    format!("FOR VALUES FROM ('{first} 00:00:00+00') TO ('{end} 00:00:00+00')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let december = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
        let sql = create(december);
        assert!(sql.contains("session_activities_2026_12 "));
        assert!(sql.contains("('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')"));
    }
}
