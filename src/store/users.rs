//! `session_users`: the lock that makes the session limit of a user hard.

use diesel::sql_types::{Array, BigInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::{TenantId, UserId};
use crate::store::Connection;

statement! {
    /// An upsert inserts the row or waits for its lock, and reads no sessions: the count belongs in a later statement,
    /// whose snapshot is taken after the wait.
    Lock {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        now: Time as Timestamptz,
    } -> BigInt,
    "WITH locked AS (
        INSERT INTO session_users AS u (tenant_id, user_id, first_create_at, last_create_at)
        SELECT k.tenant_id, k.user_id, n.now, n.now
        FROM unnest(?, ?) AS k (tenant_id, user_id), (SELECT ?::timestamptz AS now) n
        ORDER BY 1, 2
        ON CONFLICT (tenant_id, user_id) DO UPDATE SET last_create_at = excluded.last_create_at
        RETURNING 1
    )
    SELECT count(*) FROM locked"
}

/// Locks users until the transaction ends, always in one order. `users` holds each at most once.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, users: &[(&TenantId, &UserId)], now: Time) -> Result<()> {
    let tenant_ids: Vec<&str> = users.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let user_ids: Vec<&str> = users.iter().map(|(_, user)| user.as_str()).collect();
    Lock::new(&tenant_ids, &user_ids, now).get_result::<i64>(conn).await?;
    Ok(())
}
