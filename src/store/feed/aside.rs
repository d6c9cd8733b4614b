//! Owners whose activities a consumer has set aside: each has a row in `feed_consumers` too, `consumer:digest`, which
//! says how far it has read theirs. Only a transaction that has the consumer's own row locked writes them.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use crate::clock::Time;
use crate::error::Result;
use crate::model::feed::Horizon;
use crate::store::Connection;
use crate::store::feed::consumers::move_to;
use crate::store::feed::{Consumer, horizon};

statement! {
    All { prefix: &'a str as Text } -> Text,
    "SELECT consumer FROM feed_consumers WHERE starts_with(consumer, ?)"
}

statement! {
    /// In turn, those after the last one first.
    Next { prefix: &'a str as Text, last: &'a str as Text } -> Text,
    "SELECT consumer FROM feed_consumers WHERE starts_with(consumer, ?)
    ORDER BY consumer <= ?, consumer LIMIT 1"
}

statement! {
    PositionOf { consumer: &'a str as Text } -> Text,
    "SELECT read_to FROM feed_consumers WHERE consumer = ?"
}

statement! {
    Add {
        from: &'a str as Text,
        consumers: &'a [String] as Array<Text>,
        times: &'a [Time] as Array<Timestamptz>,
    } -> BigInt,
    "WITH added AS (
        INSERT INTO feed_consumers (consumer, read_to, updated_at)
        SELECT k.consumer, ?, k.updated_at FROM unnest(?, ?) AS k (consumer, updated_at)
        RETURNING 1
    )
    SELECT count(*) FROM added"
}

statement! {
    Remove { consumer: &'a str as Text } -> BigInt,
    "WITH gone AS (DELETE FROM feed_consumers WHERE consumer = ? RETURNING 1) SELECT count(*) FROM gone"
}

statement! {
    Oldest { prefix: &'a str as Text } -> Nullable<Timestamptz>,
    "SELECT min(updated_at) FROM feed_consumers WHERE starts_with(consumer, ?)"
}

/// Limits the transaction's waits for a lock to 20 ms: other transactions wait for its locks.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn hurry(conn: &mut Connection) -> Result<()> {
    Ok(conn.batch_execute("SET LOCAL lock_timeout = '20ms'").await?)
}

/// The digests of those that are set aside. They are few.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn all(conn: &mut Connection, consumer: Consumer) -> Result<HashSet<String>> {
    let prefix = prefix(consumer);
    let rows: Vec<String> = All::new(&prefix).load(conn).await?;
    Ok(rows.iter().map(|row| digest(row, &prefix)).collect())
}

/// The digest of the owner after `last`, or else of the first.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn next(conn: &mut Connection, consumer: Consumer, last: &str) -> Result<Option<String>> {
    let (prefix, last) = (prefix(consumer), name(consumer, last));
    let row: Option<String> = Next::new(&prefix, &last).get_result(conn).await.optional()?;
    Ok(row.map(|row| digest(&row, &prefix)))
}

/// The position of an owner; `None` = it is not set aside.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn position(
    conn: &mut Connection,
    consumer: Consumer,
    owner: &str,
) -> Result<Option<Horizon>> {
    let name = name(consumer, owner);
    let row: Option<String> = PositionOf::new(&name).get_result(conn).await.optional()?;
    row.map(|position| horizon(&position)).transpose()
}

/// Sets the owners with these digests aside: their activities after `from` are not read. Each digest has the time of
/// its first unread activity.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn add(
    conn: &mut Connection,
    consumer: Consumer,
    owners: &BTreeMap<String, Time>,
    from: &Horizon,
) -> Result<()> {
    let names: Vec<String> = owners.keys().map(|owner| name(consumer, owner)).collect();
    let times: Vec<Time> = owners.values().copied().collect();
    Add::new(&from.to_string(), &names, &times).get_result::<i64>(conn).await?;
    Ok(())
}

/// Stores the position of an owner.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn advance(
    conn: &mut Connection,
    consumer: Consumer,
    owner: &str,
    to: &Horizon,
    now: Time,
) -> Result<()> {
    move_to(conn, &name(consumer, owner), to, now).await
}

/// Removes an owner that has caught up.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn remove(conn: &mut Connection, consumer: Consumer, owner: &str) -> Result<()> {
    Remove::new(&name(consumer, owner)).get_result::<i64>(conn).await?;
    Ok(())
}

/// The earliest time of an unread activity of the owners set aside; `None` = no owner is set aside.
pub(super) async fn oldest(conn: &mut Connection, consumer: Consumer) -> Result<Option<Time>> {
    Ok(Oldest::new(&prefix(consumer)).get_result(conn).await?)
}

fn prefix(consumer: Consumer) -> String {
    name(consumer, "")
}

fn name(consumer: Consumer, owner: &str) -> String {
    format!("{}:{owner}", consumer.name())
}

fn digest(row: &str, prefix: &str) -> String {
    row.strip_prefix(prefix).unwrap_or_default().to_owned()
}
