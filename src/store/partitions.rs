//! Partitions of `session_activities`, one per month.

use chrono::{Datelike, Months, NaiveDate};
use diesel::OptionalExtension;
use diesel::dsl::sql;
use diesel::sql_types::{Bool, Text};
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

/// Creates the partitions of the month of `now`, the two that follow and the one before, which reports may
/// still reach, where they are missing.
///
/// # Errors
/// Those of the database; rows of such a month that already lie in the default partition (after a
/// clock that stood wrong) make it an internal error, and stay where they are.
pub async fn create_ahead(conn: &mut Connection, now: Time) -> Result<()> {
    let this_month = now.date_naive().with_day(1).expect("every month has a first day");
    let ahead = (0..3).map(|ahead| this_month + Months::new(ahead));
    for first in ahead.chain([this_month - Months::new(1)]) {
        // Asked first: creating locks the table even where nothing is to be created.
        let there: bool = Exists::new(&name(first)).get_result(conn).await?;
        if !there {
            conn.batch_execute(&create_month(first)).await?;
        }
    }
    Ok(())
}

/// Drops the oldest month that lies before the one of `before`, unless a consumer of the feed has still to read it.
/// Its name, if one was dropped.
///
/// # Errors
/// Those of the database; [`crate::error::Outage::Locked`] if writers of the table cannot be kept out within 100 ms.
pub async fn drop_oldest(conn: &mut Connection, before: Time) -> Result<Option<String>> {
    let end = name(before.date_naive());
    let found = Oldest::new(&end).get_result::<String>(conn).await.optional()?;
    let Some(month) = found else { return Ok(None) };
    // Writers queue behind the lock for no longer than it is waited for. The name is one of ours, as its pattern says.
    // The whole before its part, as everybody locks them.
    conn.batch_execute(&format!(
        "SET LOCAL lock_timeout = '100ms'; LOCK TABLE ONLY session_activities; LOCK TABLE {month}"
    ))
    .await?;
    let unread = format!(
        "SELECT EXISTS (SELECT 1 FROM feed_consumers c JOIN {month} m
            ON m.xid >= pg_snapshot_xmin(c.read_to::pg_snapshot)
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

fn create_month(first: NaiveDate) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} PARTITION OF session_activities \
         FOR VALUES FROM ('{first} 00:00:00+00') TO ('{} 00:00:00+00')",
        name(first),
        first + Months::new(1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let december = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
        let sql = create_month(december);
        assert!(sql.contains("session_activities_2026_12 "));
        assert!(sql.contains("('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')"));
    }
}
