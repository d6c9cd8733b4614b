//! `devices`: reading and locking. Writing is in `changes`.

mod list;

use std::collections::HashSet;

use diesel::SelectableHelper;
use diesel::prelude::{OptionalExtension, QueryDsl};
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::DeviceKey;
use crate::model::user_device::UserDevice;
use crate::store::Connection;
use crate::store::rows::device::DeviceRow;
use crate::store::schema::devices as d;

pub use list::list;

/// The device with this key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn find(conn: &mut Connection, key: &DeviceKey) -> Result<Option<UserDevice>> {
    d::table
        .find((key.tenant.as_str(), key.user.as_str(), key.device))
        .select(DeviceRow::as_select())
        .first(conn)
        .await
        .optional()?
        .map(UserDevice::try_from)
        .transpose()
}

/// The same, locked until the transaction ends. A transaction that locks sessions as well locks those first.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn lock(conn: &mut Connection, key: &DeviceKey) -> Result<Option<UserDevice>> {
    d::table
        .find((key.tenant.as_str(), key.user.as_str(), key.device))
        .select(DeviceRow::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?
        .map(UserDevice::try_from)
        .transpose()
}

/// Deletes a locked device; only [`crate::store::changes::Changes::forget_device`] calls this.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub(super) async fn delete(conn: &mut Connection, key: &DeviceKey) -> Result<()> {
    let device = d::table.find((key.tenant.as_str(), key.user.as_str(), key.device));
    diesel::delete(device).execute(conn).await?;
    Ok(())
}

statement! {
    /// By primary key, several at once.
    Trusted {
        tenants: &'a [&'a str] as Array<Text>,
        users: &'a [&'a str] as Array<Text>,
        ids: &'a [Uuid] as Array<SqlUuid>,
    } -> BigInt,
    "SELECT k.n FROM unnest(?, ?, ?) WITH ORDINALITY AS k (t, u, i, n)
    JOIN devices d ON d.tenant_id = k.t AND d.user_id = k.u AND d.device_id = k.i
    WHERE d.trusted"
}

/// Those of `keys` that their users trust.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn trusted(conn: &mut Connection, keys: &[DeviceKey]) -> Result<HashSet<DeviceKey>> {
    let tenants: Vec<&str> = keys.iter().map(|key| key.tenant.as_str()).collect();
    let users: Vec<&str> = keys.iter().map(|key| key.user.as_str()).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.device).collect();
    let places: Vec<i64> = Trusted::new(&tenants, &users, &ids).load(conn).await?;
    let key = |place: i64| keys.get(usize::try_from(place - 1).ok()?);
    Ok(places.into_iter().filter_map(key).cloned().collect())
}
