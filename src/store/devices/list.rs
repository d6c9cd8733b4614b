//! The devices of a user, those seen last first.
//!
//! The row of a device has the time of its last sight, except while the device has sessions: their rows are newer. So
//! the devices without sessions come from the index by last sight, and the others from the sessions of the user that
//! have not ended.

use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::{TenantId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::model::user_device::{DeviceFilter, UserDevice};
use crate::store::Connection;
use crate::store::rows::device::DeviceRow;
use crate::store::rows::found::{self, Found};
use crate::store::schema::devices as d;

/// The most sessions of a user that are read for the last sight of their devices, newest first.
const TELLING: i64 = 10_000;

/// The devices between the filter's times and after the page before, by `at`. A time beyond these years cannot be read.
macro_rules! due {
    ($at:literal) => {
        concat!(
            $at,
            " >= coalesce($seen_after, '0001-01-01 00:00:00Z'::timestamptz) AND ",
            $at,
            " < coalesce($seen_before, '10000-01-01 00:00:00Z'::timestamptz) AND (",
            $at,
            ", device_id) < (coalesce($last_at, '10000-01-01 00:00:00Z'::timestamptz),
                coalesce($last_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
            ORDER BY ",
            $at,
            " DESC, device_id DESC LIMIT $most"
        )
    };
}

statement! {
    /// A device is in one of both parts. `LATERAL` with a limit, so that no plan reads all devices of the user.
    named LastSeen {
        tenant: String as Text,
        user: String as Text,
        telling: i64 as BigInt,
        unused: bool as Bool,
        seen_after: Option<Time> as Nullable<Timestamptz>,
        seen_before: Option<Time> as Nullable<Timestamptz>,
        last_at: Option<Time> as Nullable<Timestamptz>,
        last_id: Option<Uuid> as Nullable<SqlUuid>,
        most: i64 as BigInt,
    } -> d::SqlType,
    concat!("WITH used AS (
        SELECT device_id AS used_id,
            max(last_active_at) FILTER (WHERE last_active_at < '10000-01-01 00:00:00Z') AS used_at
        FROM (
            SELECT device_id, last_active_at FROM user_sessions
            WHERE tenant_id = $tenant AND user_id = $user AND state = 1
            ORDER BY session_id DESC LIMIT $telling
        ) newest GROUP BY device_id
    )
    SELECT ", device_columns!(), ", listed_at FROM (
        (SELECT ", device_columns!(), ", last_seen_at AS listed_at FROM devices
        WHERE tenant_id = $tenant AND user_id = $user AND $unused
            AND device_id NOT IN (SELECT used_id FROM used) AND ", due!("last_seen_at"), ")
        UNION ALL
        SELECT ", device_columns!(), ", greatest(last_seen_at, used_at)
        FROM used CROSS JOIN LATERAL (
            SELECT ", device_columns!(), " FROM devices
            WHERE tenant_id = $tenant AND user_id = $user AND device_id = used_id LIMIT 1
        ) its
    ) parts
    WHERE ", due!("listed_at"))
}

/// A page of a user's devices, by the last sight of each that is written. Those with sessions that are past a deadline
/// are among them whatever the filter says of activity. Damaged rows are skipped.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn list(
    conn: &mut Connection,
    tenant: &TenantId,
    user: &UserId,
    filter: &DeviceFilter,
    page: PageRequest<(Time, Uuid)>,
) -> Result<Page<UserDevice, (Time, Uuid)>> {
    let query = LastSeen {
        tenant: tenant.to_string(),
        user: user.to_string(),
        telling: TELLING,
        unused: filter.has_active_session != Some(true),
        seen_after: filter.last_seen_after,
        seen_before: filter.last_seen_before,
        last_at: page.after.map(|(at, _)| at),
        last_id: page.after.map(|(_, id)| id),
        most: i64::try_from(page.size + 1).unwrap_or(i64::MAX),
    };
    found::page(page, query.load::<Found<DeviceRow>>(conn).await?, Found::position)
}
