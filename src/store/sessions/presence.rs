//! The sessions that are on devices now, in few columns.

use diesel::prelude::Queryable;
use diesel::sql_types::{
    Array, Inet, Interval, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::user_device::{DeviceSighting, Presence};
use crate::store::Connection;
use crate::store::rows::found::{Found, sound};
use crate::store::rows::{are_possible, corrupt, is_possible};

type PresenceColumns = (
    Text,
    Text,
    SqlUuid,
    SqlUuid,
    Timestamptz,
    Nullable<Interval>,
    Timestamptz,
    Nullable<Inet>,
    Nullable<Jsonb>,
);

#[derive(Queryable)]
struct PresenceRow {
    tenant_id: String,
    user_id: String,
    session_id: Uuid,
    device_id: Uuid,
    last_active_at: Time,
    idle_timeout: Option<chrono::Duration>,
    absolute_expires_at: Time,
    ip_address: Option<ipnet::IpNet>,
    location: Option<serde_json::Value>,
}

stored!(PresenceRow as PresenceColumns: "user_sessions" by "session_id");

impl TryFrom<PresenceRow> for Presence {
    type Error = Error;

    fn try_from(row: PresenceRow) -> Result<Presence> {
        let session = row.session_id;
        let bad = |column| corrupt("user_sessions", column, session);
        let times = [row.last_active_at, row.absolute_expires_at].map(Some);
        if !are_possible(times) || !is_possible(row.idle_timeout) {
            return Err(bad("times"));
        }
        let tenant = TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id"))?;
        let user = UserId::parse(&row.user_id).map_err(|_| bad("user_id"))?;
        let location = row.location.map(serde_json::from_value).transpose();
        let location = location.map_err(|_| bad("location"))?;
        let ip = row.ip_address.map(|net| net.addr());
        Ok(Presence {
            session: SessionKey { tenant, user, session },
            device: row.device_id,
            seen: DeviceSighting { at: row.last_active_at, ip, location },
            idle_timeout: row.idle_timeout,
            absolute_expires_at: row.absolute_expires_at,
        })
    }
}

statement! {
    /// From the index of what is not ended, so that ended sessions cost nothing.
    Present {
        tenant: &'a str as Text,
        user: &'a str as Text,
        devices: &'a [Uuid] as Array<SqlUuid>,
    } -> PresenceColumns,
    "SELECT tenant_id, user_id, session_id, device_id, last_active_at, idle_timeout,
        absolute_expires_at, ip_address, location
    FROM user_sessions
    WHERE tenant_id = ? AND user_id = ? AND state = 1 AND device_id = ANY(?)"
}

/// The sessions of a user on these devices that are not ended; some may be past a deadline. Damaged rows are logged and
/// skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn present(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    devices: &[Uuid],
) -> Result<Vec<Presence>> {
    let present = Present::new(tenant.as_str(), user.as_str(), devices);
    Ok(sound(present.load::<Found<PresenceRow>>(conn).await?).0)
}
