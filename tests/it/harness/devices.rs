//! Calls about devices.

use sessiond::grpc::pb;
use tonic::Status;

use super::TestServer;
use super::calls::new_session;

/// A create of `user` from this address, on the device that the fingerprint names.
pub fn on(user: &str, fingerprint: &str, ip_address: &str) -> pb::CreateSessionRequest {
    let fingerprint = pb::device_context::Identity::Fingerprint(fingerprint.to_owned());
    let device = pb::DeviceContext { identity: Some(fingerprint), ..Default::default() };
    let client = pb::ClientContext {
        ip_address: ip_address.to_owned(),
        device: Some(device),
        ..Default::default()
    };
    pb::CreateSessionRequest { client: Some(client), ..new_session(user) }
}

/// The id of the device of a session.
pub fn device_of(session: &Option<pb::Session>) -> String {
    let device = session.as_ref().and_then(|session| session.device.clone());
    device.expect("a session on a device").device_id
}

impl TestServer {
    /// Creates the session that the request asks for, and returns it with the id of its device.
    pub async fn create_on(
        &self,
        request: pb::CreateSessionRequest,
    ) -> (pb::CreateSessionResponse, String) {
        let created = self.try_create(request).await.expect("a session");
        let device = device_of(&created.session);
        (created, device)
    }

    pub async fn list_devices(
        &self,
        request: pb::ListDevicesRequest,
    ) -> Result<pb::ListDevicesResponse, Status> {
        Ok(self.sessions().list_devices(request).await?.into_inner())
    }

    /// All devices of a user, newest first.
    pub async fn devices(&self, user: &str) -> Vec<pb::UserDevice> {
        let user_id = user.to_owned();
        let request = pb::ListDevicesRequest { user_id, page_size: 1000, ..Default::default() };
        self.list_devices(request).await.expect("a list").devices
    }

    pub async fn get_device(&self, user: &str, device: &str) -> Result<pb::UserDevice, Status> {
        let (user_id, device_id) = (user.to_owned(), device.to_owned());
        let request = pb::GetDeviceRequest { user_id, device_id, ..Default::default() };
        let answer = self.sessions().get_device(request).await?.into_inner();
        Ok(answer.device.expect("a device"))
    }

    /// The device of a user, which must exist.
    pub async fn device(&self, user: &str, device: &str) -> pb::UserDevice {
        self.get_device(user, device).await.expect("a device")
    }
}

/// A user's device, named for an update that sets nothing yet.
pub fn update(user: &str, device: &str) -> pb::UserDevice {
    let (user_id, device_id) = (user.to_owned(), device.to_owned());
    pb::UserDevice { user_id, device_id, ..Default::default() }
}

/// An update of what `device` sets.
pub fn set_device(device: pb::UserDevice) -> pb::UpdateDeviceRequest {
    pb::UpdateDeviceRequest { device: Some(device), ..Default::default() }
}

/// An update of what `session` sets.
pub fn set_session(session: pb::Session) -> pb::UpdateSessionRequest {
    pb::UpdateSessionRequest { session: Some(session), ..Default::default() }
}

pub fn revocation(user: &str, device: &str) -> pb::RevokeDeviceRequest {
    let (user_id, device_id) = (user.to_owned(), device.to_owned());
    pb::RevokeDeviceRequest { user_id, device_id, ..Default::default() }
}

pub fn forgetting(user: &str, device: &str) -> pb::ForgetDeviceRequest {
    let (user_id, device_id) = (user.to_owned(), device.to_owned());
    pb::ForgetDeviceRequest { user_id, device_id, ..Default::default() }
}

/// A mask of these paths.
pub fn mask<const N: usize>(paths: [&str; N]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.map(str::to_owned).to_vec() })
}

impl TestServer {
    pub async fn update_device(
        &self,
        request: pb::UpdateDeviceRequest,
    ) -> Result<pb::UserDevice, Status> {
        let answer = self.sessions().update_device(request).await?.into_inner();
        Ok(answer.device.expect("a device"))
    }

    pub async fn revoke_device(
        &self,
        request: pb::RevokeDeviceRequest,
    ) -> Result<pb::RevokeDeviceResponse, Status> {
        Ok(self.sessions().revoke_device(request).await?.into_inner())
    }

    pub async fn forget_device(
        &self,
        request: pb::ForgetDeviceRequest,
    ) -> Result<pb::ForgetDeviceResponse, Status> {
        Ok(self.sessions().forget_device(request).await?.into_inner())
    }

    pub async fn update_session(
        &self,
        request: pb::UpdateSessionRequest,
    ) -> Result<pb::Session, Status> {
        let answer = self.sessions().update_session(request).await?.into_inner();
        Ok(answer.session.expect("a session"))
    }
}
