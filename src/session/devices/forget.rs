//! ForgetDevice: revokes a device, then deletes its row.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::ids::DeviceKey;
use crate::model::session::State;
use crate::model::user_device::UserDevice;
use crate::session::devices::revoke::{DeviceRevocation, Revoke};
use crate::session::terminate_many::MassTerminationResult;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{devices, sessions};

/// Forgets devices.
pub struct Forget {
    db: Database,
    clock: Clock,
    revoke: Arc<Revoke>,
}

impl Forget {
    /// Forgets devices of `db`, which `revoke` revokes first.
    pub fn new(db: Database, clock: Clock, revoke: Arc<Revoke>) -> Forget {
        Forget { db, clock, revoke }
    }

    /// Revokes the device as [`Revoke::revoke`] does, and deletes it once all its sessions have ended.
    ///
    /// # Errors
    /// As [`Revoke::revoke`].
    pub async fn forget(
        &self,
        input: &DeviceRevocation,
        time: Duration,
    ) -> Result<MassTerminationResult> {
        let (at, done) = self.revoke.revoke_at(input, time).await?;
        if done.complete {
            let deleting = self
                .db
                .transaction(async |tx| self.delete(tx, &input.key, &input.principal, at).await);
            self.db.within(deleting).await?;
        }
        Ok(done)
    }

    /// Deletes the device that was revoked at `at`. A session created since then is on a new device.
    async fn delete(
        &self,
        tx: &mut Transaction,
        key: &DeviceKey,
        by: &str,
        at: Time,
    ) -> Result<()> {
        let live = sessions::lock_on_device(tx, key, None).await?;
        let device = devices::lock(tx, key).await?;
        // A newer device with the same id, or one revoked again, is not deleted by this call.
        let Some(device) = device.filter(|device| device.revoked_at == Some(at)) else {
            return Ok(());
        };
        let mut changes = Changes::new(&self.clock);
        changes.forget_device(&device, by);
        let now = changes.at();
        let live = live.iter().filter(|session| session.state_at(now) == State::Active);
        live.for_each(|session| changes.see_device(UserDevice::of_session(session)));
        changes.write(tx).await
    }
}
