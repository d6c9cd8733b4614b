//! Which sessions are on devices now, told in few columns.

use diesel::sql_types::{
    Array, Inet, Interval, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::user_device::{Presence, Sighting};
use crate::store::Connection;
use crate::store::rows::corrupt;

type Columns = (
    SqlUuid,
    SqlUuid,
    Timestamptz,
    Nullable<Interval>,
    Timestamptz,
    Nullable<Inet>,
    Nullable<Jsonb>,
);

type Row = (
    Uuid,
    Uuid,
    Time,
    Option<chrono::Duration>,
    Time,
    Option<ipnet::IpNet>,
    Option<serde_json::Value>,
);

statement! {
    /// From the index of what is not ended, however long the history is.
    Present {
        tenant: &'a str as Text,
        user: &'a str as Text,
        devices: &'a [Uuid] as Array<SqlUuid>,
    } -> Columns,
    "SELECT session_id, device_id, last_active_at, idle_timeout, absolute_expires_at, ip_address,
        location
    FROM user_sessions
    WHERE tenant_id = ? AND user_id = ? AND state = 1 AND device_id = ANY(?)"
}

/// The sessions of a user on these devices that are not ended; some may be past a deadline.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn present(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    devices: &[Uuid],
) -> Result<Vec<Presence>> {
    let rows: Vec<Row> = Present::new(tenant.as_str(), user.as_str(), devices).load(conn).await?;
    let presence = |(session, device, at, idle_timeout, absolute_expires_at, ip, place): Row| {
        let location = place.map(serde_json::from_value).transpose();
        let location = location.map_err(|_| corrupt("user_sessions", "location", session))?;
        let session = SessionKey { tenant: tenant.clone(), user: user.clone(), session };
        let seen = Sighting { at, ip: ip.map(|net| net.addr()), location };
        Ok(Presence { session, device, seen, idle_timeout, absolute_expires_at })
    };
    rows.into_iter().map(presence).collect()
}
