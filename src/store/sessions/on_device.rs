//! Sessions by the device they are on.

use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::DeviceKey;
use crate::model::session::Session;
use crate::store::Connection;
use crate::store::rows::found::{Found, sound};
use crate::store::rows::session::SessionRow;
use crate::store::schema::user_sessions;

/// The most sessions that show at once what is set on their device, newest first.
const SHOWING: i64 = 1000;

statement! {
    /// In the order of the primary key, as every transaction locks.
    LockOnDevice {
        of_tenant: &'a str as Text,
        of_user: &'a str as Text,
        device: Uuid as SqlUuid,
        most: i64 as BigInt,
        also: Option<Uuid> as Nullable<SqlUuid>,
        tenant: &'a str as Text,
        user: &'a str as Text,
    } -> user_sessions::SqlType,
    concat!(
        "WITH k AS (
            (SELECT session_id AS id FROM user_sessions
            WHERE tenant_id = ? AND user_id = ? AND state = 1 AND device_id = ?
            ORDER BY session_id DESC LIMIT ?)
            UNION SELECT ?
        )
        SELECT ", session_columns!(), "
        FROM k JOIN user_sessions s ON s.session_id = k.id AND s.tenant_id = ? AND s.user_id = ?
        ORDER BY s.session_id
        FOR NO KEY UPDATE OF s"
    )
}

statement! {
    /// What a revocation ended: its sessions had begun by then, or it is the last one so far.
    CountRevoked {
        at: Time as Timestamptz,
        newest: Uuid as SqlUuid,
        tenant: &'a str as Text,
        user: &'a str as Text,
        device: Uuid as SqlUuid,
    } -> BigInt,
    "SELECT count(*)
    FROM (SELECT ?::timestamptz AS at, ?::uuid AS newest) r,
        user_sessions s LEFT JOIN devices d USING (tenant_id, user_id, device_id)
    WHERE s.tenant_id = ? AND s.user_id = ? AND s.device_id = ?
        AND s.state = 2 AND s.end_reason = 4 AND s.ended_at >= r.at
        AND (s.session_id <= r.newest OR coalesce(d.revoked_at, r.at) <= r.at)"
}

/// Locks the live sessions on a device, the newest 1000 of them, and `also` the one of the same user with this id. Some
/// may have ended before they were locked. Damaged rows are logged and skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock_on_device(
    conn: &mut Connection,
    key: &DeviceKey,
    also: Option<Uuid>,
) -> Result<Vec<Session>> {
    let (tenant, user) = (key.tenant.as_str(), key.user.as_str());
    let lock = LockOnDevice::new(tenant, user, key.device, SHOWING, also, tenant, user);
    Ok(sound(lock.load::<Found<SessionRow>>(conn).await?).0)
}

/// How many sessions the revocation of the device at `at` ended, when `newest` was the newest of the user.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn count_revoked(
    conn: &mut Connection,
    key: &DeviceKey,
    newest: Uuid,
    at: Time,
) -> Result<u64> {
    let count = CountRevoked::new(at, newest, key.tenant.as_str(), key.user.as_str(), key.device);
    let count: i64 = count.get_result(conn).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}
