//! Reading sessions in order to change them.

use std::collections::{HashMap, HashSet};

use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::rows::found::{Found, sound};
use crate::store::rows::session::SessionRow;
use crate::store::schema::user_sessions;

/// Sorted before locking: every transaction takes its locks in the order of the primary key, so there is no deadlock.
macro_rules! lock {
    () => {
        concat!(
            "SELECT ",
            session_columns!(),
            "
            FROM unnest(?, ?, ?) AS k (t, u, id)
            JOIN user_sessions s ON s.tenant_id = k.t AND s.user_id = k.u AND s.session_id = k.id
            ORDER BY s.tenant_id, s.user_id, s.session_id
            FOR NO KEY UPDATE OF s"
        )
    };
}

statement! {
    Lock {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        sessions: &'a [Uuid] as Array<SqlUuid>,
    } -> user_sessions::SqlType,
    lock!()
}

statement! {
    /// The same without waiting.
    LockFree {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        sessions: &'a [Uuid] as Array<SqlUuid>,
    } -> user_sessions::SqlType,
    concat!(lock!(), " SKIP LOCKED")
}

statement! {
    /// Whether each is live.
    There {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        sessions: &'a [Uuid] as Array<SqlUuid>,
    } -> (SqlUuid, Bool),
    "SELECT s.session_id, s.state = 1 FROM unnest(?, ?, ?) AS k (t, u, id)
    JOIN user_sessions s ON s.tenant_id = k.t AND s.user_id = k.u AND s.session_id = k.id"
}

statement! {
    /// What the sweeper reads next. SKIP LOCKED: replicas share the work.
    LockDue {
        now: Time as Timestamptz,
        without: &'a [Uuid] as Array<SqlUuid>,
        limit: i64 as BigInt,
    } -> user_sessions::SqlType,
    concat!(
        "SELECT ", session_columns!(), "
        FROM user_sessions s WHERE s.state = 1 AND s.sweep_at <= ? AND s.session_id <> ALL (?)
        ORDER BY s.sweep_at LIMIT ? FOR NO KEY UPDATE SKIP LOCKED"
    )
}

statement! {
    /// Works on damaged rows as well.
    Postpone {
        until: Time as Timestamptz,
        now: Time as Timestamptz,
        ids: &'a [Uuid] as Array<SqlUuid>,
    } -> BigInt,
    "WITH postponed AS (
        UPDATE user_sessions s SET sweep_at = ?
        FROM (
            SELECT tenant_id, user_id, session_id FROM user_sessions
            WHERE state = 1 AND sweep_at <= ? ORDER BY sweep_at LIMIT 1000
        ) due
        WHERE s.tenant_id = due.tenant_id AND s.user_id = due.user_id
            AND s.session_id = due.session_id AND s.session_id = ANY (?)
        RETURNING 1
    )
    SELECT count(*) FROM postponed"
}

statement! {
    /// Sessions of users that are not ended; some may be past a deadline.
    LockLive {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
    } -> user_sessions::SqlType,
    concat!(
        "SELECT ", session_columns!(), "
        FROM unnest(?, ?) AS k (t, u)
        JOIN user_sessions s ON s.tenant_id = k.t AND s.user_id = k.u AND s.state = 1
        ORDER BY s.tenant_id, s.user_id, s.session_id
        FOR NO KEY UPDATE OF s"
    )
}

statement! {
    /// One index look-up for each user, in their order; none reads beyond `most`.
    CountLive {
        most: i64 as BigInt,
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
    } -> BigInt,
    "SELECT (
        SELECT count(*) FROM (
            SELECT 1 FROM user_sessions s
            WHERE s.tenant_id = k.t AND s.user_id = k.u AND s.state = 1
            LIMIT ?
        ) live
    )
    FROM unnest(?, ?) WITH ORDINALITY AS k (t, u, n) ORDER BY k.n"
}

/// Locks these sessions until the transaction ends; those that do not exist are skipped. `keys` holds each at most
/// once.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, keys: &[&SessionKey]) -> Result<Vec<Session>> {
    lock_rows(conn, keys).await?.into_iter().map(Found::read).collect()
}

/// The same, but of damaged rows, which are logged, only the ids are returned. `keys` may be empty.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock_sound(
    conn: &mut Connection,
    keys: &[&SessionKey],
) -> Result<(Vec<Session>, Vec<Uuid>)> {
    let rows = if keys.is_empty() { Vec::new() } else { lock_rows(conn, keys).await? };
    Ok(sound(rows))
}

/// What [`lock_free`] found.
#[derive(Default)]
pub struct LockedSessions {
    pub sessions: Vec<Session>,
    /// Damaged rows, which are logged.
    pub damaged: Vec<Uuid>,
    /// What another transaction has locked, and whether it is live.
    pub held: HashMap<Uuid, bool>,
}

/// The same, but waits for no lock. `keys` may be empty.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock_free(conn: &mut Connection, keys: &[&SessionKey]) -> Result<LockedSessions> {
    if keys.is_empty() {
        return Ok(LockedSessions::default());
    }
    let (tenants, users, ids) = columns(keys);
    let rows: Vec<Found<SessionRow>> = LockFree::new(&tenants, &users, &ids).load(conn).await?;
    let mut held = HashMap::new();
    if rows.len() < keys.len() {
        let there: Vec<(Uuid, bool)> = There::new(&tenants, &users, &ids).load(conn).await?;
        let free: HashSet<Uuid> = rows.iter().map(Found::id).collect();
        held.extend(there.into_iter().filter(|(id, _)| !free.contains(id)));
    }
    let (sessions, damaged) = sound(rows);
    Ok(LockedSessions { sessions, damaged, held })
}

async fn lock_rows(conn: &mut Connection, keys: &[&SessionKey]) -> Result<Vec<Found<SessionRow>>> {
    let (tenants, users, ids) = columns(keys);
    Ok(Lock::new(&tenants, &users, &ids).load(conn).await?)
}

fn columns<'a>(keys: &[&'a SessionKey]) -> (Vec<&'a str>, Vec<&'a str>, Vec<Uuid>) {
    let tenants = keys.iter().map(|key| key.tenant.as_str()).collect();
    let users = keys.iter().map(|key| key.user.as_str()).collect();
    (tenants, users, keys.iter().map(|key| key.session).collect())
}

/// Locks at most `limit` sessions that are due for the sweeper, except those of `without`. Of damaged rows, which are
/// logged, only the ids are returned.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock_due(
    conn: &mut Connection,
    now: Time,
    without: &[Uuid],
    limit: i64,
) -> Result<(Vec<Session>, Vec<Uuid>)> {
    Ok(sound(LockDue::new(now, without, limit).load::<Found<SessionRow>>(conn).await?))
}

/// Postpones these sessions, which are due now and locked, for the sweeper to `until`. False if not all were postponed:
/// at most 1000 due sessions are searched.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn postpone(conn: &mut Connection, ids: &[Uuid], now: Time, until: Time) -> Result<bool> {
    if ids.is_empty() {
        return Ok(true);
    }
    let postponed: i64 = Postpone::new(until, now, ids).get_result(conn).await?;
    Ok(usize::try_from(postponed).is_ok_and(|postponed| postponed >= ids.len()))
}

/// Locks the sessions of these users that are not ended. `users` holds each at most once.
///
/// # Errors
/// [`crate::error::Error::Unavailable`]; [`crate::error::Error::Internal`] if a row is damaged: replicas may still take
/// it for active, so the number is unknown.
pub async fn lock_live(
    conn: &mut Connection,
    users: &[(&TenantId, &UserId)],
) -> Result<Vec<Session>> {
    let tenant_ids: Vec<&str> = users.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let user_ids: Vec<&str> = users.iter().map(|(_, user)| user.as_str()).collect();
    let rows: Vec<Found<SessionRow>> = LockLive::new(&tenant_ids, &user_ids).load(conn).await?;
    rows.into_iter().map(Found::read).collect()
}

/// How many sessions of each of these users, in order, are not ended; `most` stands for more.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn count_live(
    conn: &mut Connection,
    users: &[(&TenantId, &UserId)],
    most: u32,
) -> Result<Vec<i64>> {
    let tenant_ids: Vec<&str> = users.iter().map(|(tenant, _)| tenant.as_str()).collect();
    let user_ids: Vec<&str> = users.iter().map(|(_, user)| user.as_str()).collect();
    Ok(CountLive::new(most.into(), &tenant_ids, &user_ids).load(conn).await?)
}
