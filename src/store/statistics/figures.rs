//! Reading the statistics, and their retention.

use diesel::sql_types::{BigInt, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use crate::clock::Time;
use crate::error::Result;
use crate::model::statistics::window::{Stored, Window};
use crate::model::statistics::{OpenCounts, Owner};
use crate::store::Connection;
use crate::store::feed::{self, Consumer};
use crate::store::statistics::{from_json, user};

statement! {
    /// One snapshot: the present totals, without an hour; the hours of the window; the next one.
    Read {
        tenant: &'a str as Text,
        user: &'a str as Text,
        start: Time as Timestamptz,
        end: Time as Timestamptz,
    } -> (Nullable<Timestamptz>, Jsonb),
    "WITH k AS NOT MATERIALIZED (
        SELECT ?::text AS t, ?::text AS u, ?::timestamptz AS first, ?::timestamptz AS after
    )
    SELECT NULL::timestamptz, to_jsonb(s)
    FROM k JOIN standings s ON s.tenant_id = k.t AND s.user_id = k.u
    UNION ALL
    SELECT r.hour, r.counts
    FROM k JOIN roll_ups r ON r.tenant_id = k.t AND r.user_id = k.u
        AND r.hour >= k.first AND r.hour < k.after
    UNION ALL
    (SELECT r.hour, r.counts
    FROM k JOIN roll_ups r ON r.tenant_id = k.t AND r.user_id = k.u AND r.hour >= k.after
    ORDER BY r.hour LIMIT 1)"
}

statement! {
    PruneUsers { before: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "WITH gone AS (
        DELETE FROM roll_ups WHERE (tenant_id, user_id, hour) IN (
            SELECT tenant_id, user_id, hour FROM roll_ups WHERE hour < ? AND user_id <> ''
            ORDER BY hour LIMIT ? FOR UPDATE SKIP LOCKED
        )
        RETURNING 1
    )
    SELECT count(*) FROM gone"
}

statement! {
    PruneTenants { before: Time as Timestamptz, limit: i64 as BigInt } -> BigInt,
    "WITH gone AS (
        DELETE FROM roll_ups WHERE (tenant_id, user_id, hour) IN (
            SELECT tenant_id, user_id, hour FROM roll_ups WHERE hour < ? AND user_id = ''
            ORDER BY hour LIMIT ? FOR UPDATE SKIP LOCKED
        )
        RETURNING 1
    )
    SELECT count(*) FROM gone"
}

/// What is stored of a window. `now` is the time of the call.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn read(
    conn: &mut Connection,
    owner: &Owner,
    window: &Window,
    now: Time,
) -> Result<Stored> {
    // Before the figures: they may be newer than this time, never older.
    let as_of = feed::read_through(conn, Consumer::Stats, now).await?;
    let (tenant, user) = (owner.tenant.as_str(), user(owner));
    let rows: Vec<(Option<Time>, Value)> =
        Read::new(tenant, user, window.start, window.end).load(conn).await?;
    let mut stored = Stored { standing: OpenCounts::default(), hours: Vec::new(), as_of };
    for (hour, value) in rows {
        match hour {
            Some(hour) => stored.hours.push((hour, from_json(value)?)),
            None => stored.standing = from_json(value)?,
        }
    }
    stored.hours.sort_by_key(|(hour, _)| *hour);
    Ok(stored)
}

/// Deletes at most `limit` rows of users from before `users`, and as many of tenants from before
/// `tenants`; returns how many of the one with more.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn prune(conn: &mut Connection, users: Time, tenants: Time, limit: i64) -> Result<i64> {
    let of_users: i64 = PruneUsers::new(users, limit).get_result(conn).await?;
    let of_tenants: i64 = PruneTenants::new(tenants, limit).get_result(conn).await?;
    Ok(of_users.max(of_tenants))
}
