//! Last activity, written in batches.

use diesel::sql_types::{Array, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::SessionKey;
use crate::store::Connection;

/// The activity of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    pub last_active_at: Time,
    /// The highest refresh generation of which an access token was seen.
    pub generation: u32,
}

statement! {
    /// Only forward, only what is active: a late touch revives nothing and turns nothing back. No indexed column
    /// changes, so every update is HOT. SKIP LOCKED: one locked row must not delay the others. Returns what was active
    /// and skipped; the table is only read for what was not written.
    Flush {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        sessions: &'a [Uuid] as Array<SqlUuid>,
        times: &'a [Time] as Array<Timestamptz>,
        generations: &'a [i32] as Array<Integer>,
    } -> SqlUuid,
    "WITH k AS (
        SELECT tenant_id, user_id, session_id, last_active_at, generation
        FROM unnest(?, ?, ?, ?, ?)
            AS k (tenant_id, user_id, session_id, last_active_at, generation)
    ), seen AS (
        SELECT s.tenant_id, s.user_id, s.session_id, k.last_active_at, k.generation
        FROM k JOIN user_sessions s ON s.tenant_id = k.tenant_id AND s.user_id = k.user_id
            AND s.session_id = k.session_id AND s.state = 1
        ORDER BY s.tenant_id, s.user_id, s.session_id
        FOR NO KEY UPDATE OF s SKIP LOCKED
    ), touched AS (
        UPDATE user_sessions s SET
            last_active_at = greatest(s.last_active_at, seen.last_active_at),
            confirmed_generation =
                least(s.generation, greatest(s.confirmed_generation, seen.generation))
        FROM seen
        WHERE s.tenant_id = seen.tenant_id AND s.user_id = seen.user_id
            AND s.session_id = seen.session_id
        RETURNING s.session_id
    ), rest AS MATERIALIZED (
        SELECT tenant_id, user_id, session_id FROM k
        WHERE NOT EXISTS (SELECT 1 FROM touched WHERE touched.session_id = k.session_id)
    )
    SELECT s.session_id
    FROM rest JOIN user_sessions s ON s.tenant_id = rest.tenant_id AND s.user_id = rest.user_id
        AND s.session_id = rest.session_id AND s.state = 1"
}

/// Writes activity, and returns the sessions that other transactions have locked: nothing is written for them. Sessions
/// that ended meanwhile stay as they are. `seen` holds each at most once.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn touch(conn: &mut Connection, seen: &[(&SessionKey, Touch)]) -> Result<Vec<Uuid>> {
    let tenants: Vec<&str> = seen.iter().map(|(key, _)| key.tenant.as_str()).collect();
    let users: Vec<&str> = seen.iter().map(|(key, _)| key.user.as_str()).collect();
    let ids: Vec<Uuid> = seen.iter().map(|(key, _)| key.session).collect();
    let times: Vec<Time> = seen.iter().map(|(_, touch)| touch.last_active_at).collect();
    let generations: Vec<i32> =
        seen.iter().map(|(_, touch)| i32::try_from(touch.generation).unwrap_or(i32::MAX)).collect();
    Ok(Flush::new(&tenants, &users, &ids, &times, &generations).load(conn).await?)
}
