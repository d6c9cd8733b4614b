//! GetDevice and ListDevices: the stored device, updated from its live sessions.

use std::cmp::Reverse;
use std::collections::HashMap;

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::ids::{DeviceKey, TenantId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::model::user_device::{DeviceFilter, UserDevice};
use crate::session::devices::not_found;
use crate::session::touch::Touches;
use crate::store::pool::Database;
use crate::store::{Connection, devices, sessions};

/// Reads devices.
pub struct ReadDevices {
    db: Database,
    clock: Clock,
    touches: Touches,
}

/// A device, and the number of its active sessions.
pub struct ListedDevice {
    pub device: UserDevice,
    pub active: u32,
}

impl ReadDevices {
    /// Reads from `db`, and includes unwritten activity.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> ReadDevices {
        ReadDevices { db, clock, touches }
    }

    /// The device, in its state now.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`], [`crate::error::Error::Unavailable`].
    pub async fn get(&self, key: &DeviceKey) -> Result<ListedDevice> {
        let seen = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            let device = devices::find(&mut conn, key).await?.into_iter().collect();
            self.seen(&mut conn, &key.tenant, &key.user, device).await
        });
        seen.await?.pop().ok_or_else(|| not_found(key))
    }

    /// A page of the user's devices, those seen last first, in their state now.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        user: &UserId,
        filter: &DeviceFilter,
        page: PageRequest<(Time, Uuid)>,
    ) -> Result<Page<ListedDevice, (Time, Uuid)>> {
        let page = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            let Page { items, next } = devices::list(&mut conn, tenant, user, filter, page).await?;
            Ok(Page { items: self.seen(&mut conn, tenant, user, items).await?, next })
        });
        let mut page = page.await?;
        // The query does not include unwritten activity, nor which sessions are past a deadline.
        page.items.retain(|ListedDevice { device, active }| filter.matches(device, *active));
        page.items.sort_by_key(|ListedDevice { device, .. }| {
            Reverse((device.last_seen.at, device.key.device))
        });
        Ok(page)
    }

    /// Adds the data of the live sessions of these devices of a user, in one read.
    async fn seen(
        &self,
        conn: &mut Connection,
        tenant: &TenantId,
        user: &UserId,
        devices: Vec<UserDevice>,
    ) -> Result<Vec<ListedDevice>> {
        let ids: Vec<Uuid> = devices.iter().map(|device| device.key.device).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let present = sessions::present(conn, tenant, user, &ids).await?;
        let now = self.clock.now();
        let seen = |device| ListedDevice { device, active: 0 };
        let mut seen: Vec<ListedDevice> = devices.into_iter().map(seen).collect();
        let places: HashMap<Uuid, usize> = ids.into_iter().zip(0..).collect();
        for mut session in present {
            let Some(place) = places.get(&session.device) else { continue };
            if let Some(noted) = self.touches.last_active(&session.session) {
                session.seen.at = session.seen.at.max(noted);
            }
            let ListedDevice { device, active } = &mut seen[*place];
            *active += u32::from(session.lives_at(now));
            if session.seen.at > device.last_seen.at {
                device.last_seen = session.seen;
            }
        }
        Ok(seen)
    }
}
