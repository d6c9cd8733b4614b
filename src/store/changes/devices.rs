//! Changes of devices.

use super::Changes;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::revocation::{Revocation, Subject};
use crate::model::session::Session;
use crate::model::user_device::UserDevice;

impl Changes {
    /// Records that a device was seen. Devices of sessions that are created or ended need not be passed.
    pub fn see_device(&mut self, device: UserDevice) {
        match self.devices.get_mut(&device.key) {
            Some(known) => known.merge(device),
            None => _ = self.devices.insert(device.key.clone(), device),
        }
    }

    /// Changes a locked device, and the locked sessions on it that show the change.
    pub fn update_device(&mut self, device: UserDevice, by: &str, shown_by: &[Session]) {
        self.record_device(ActivityKind::DeviceUpdated, by, &device);
        self.see_device(device);
        shown_by.iter().for_each(|session| self.show_in_session(session));
    }

    /// Revokes a locked device: all tokens of sessions on it are withdrawn. Their ends follow.
    pub fn revoke_device(&mut self, device: UserDevice, by: &str) {
        self.record_device(ActivityKind::DeviceRevoked, by, &device);
        let subject = Subject::Device(device.key.device);
        self.revoke(Revocation::new(device.key.tenant.clone(), subject, self.at));
        self.see_device(device);
    }

    /// Deletes a locked device. A later sight of it in the transaction creates it anew.
    pub fn forget_device(&mut self, device: &UserDevice, by: &str) {
        self.record_device(ActivityKind::DeviceForgotten, by, device);
        self.forgotten.push(device.key.clone());
    }

    fn record_device(&mut self, kind: ActivityKind, by: &str, device: &UserDevice) {
        let id = self.clock.new_id();
        self.activities.push(Activity::of_device(id, self.at, kind, by, device));
    }
}
