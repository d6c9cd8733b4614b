//! UpdateDevice: sets values of a device. Its live sessions show them from the same commit on.

use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::device::DeviceType;
use crate::model::ids::{DeviceKey, TenantId};
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::session::{Session, State};
use crate::model::user_device::{Choice, UserDevice};
use crate::session::devices::not_found;
use crate::session::mutation::{self, Mutation};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{devices, sessions};

/// Updates devices.
pub struct UpdateDevice {
    db: Database,
    clock: Clock,
    touches: Touches,
}

/// What a caller asks for.
pub struct DeviceUpdate {
    pub key: DeviceKey,
    pub set: Setting,
    /// The revision that the caller read, if the update depends on it.
    pub etag: Option<String>,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The values to set; the outer `None` leaves a value unchanged.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// At most 128 characters; `None` = the name that the caller of a create states.
    pub display_name: Option<Option<String>>,
    /// `None` = the type that creates state.
    pub kind: Option<Option<DeviceType>>,
    pub trusted: Option<bool>,
}

impl UpdateDevice {
    /// Updates devices of `db`.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> UpdateDevice {
        UpdateDevice { db, clock, touches }
    }

    /// Sets the requested values; changes nothing if they are set already.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::EtagMismatch`], [`Error::RequestIdReused`],
    /// [`Error::Unavailable`].
    pub async fn update(&self, input: &DeviceUpdate) -> Result<()> {
        mutation::run(&self.db, &self.clock, self, input).await?;
        Ok(())
    }
}

impl Mutation<DeviceUpdate> for UpdateDevice {
    /// The device, and the live sessions on it if they show a changed value.
    type Locked = (UserDevice, Vec<Session>);
    type Answer = ();

    fn request(input: &DeviceUpdate) -> Option<(&TenantId, RequestId)> {
        Some((&input.key.tenant, input.request?))
    }

    async fn lock(&self, tx: &mut Transaction, input: &DeviceUpdate) -> Result<Self::Locked> {
        let shows = input.set.display_name.is_some() || input.set.kind.is_some();
        let mut live = match shows {
            true => sessions::lock_on_device(tx, &input.key, None).await?,
            false => Vec::new(),
        };
        live.iter_mut().for_each(|session| self.touches.overlay(session));
        let device = devices::lock(tx, &input.key).await?;
        Ok((device.ok_or_else(|| not_found(&input.key))?, live))
    }

    async fn repeat(
        &self,
        _: &mut Transaction,
        _: &DeviceUpdate,
        _: Self::Locked,
        _: RecordedRequest,
        _: Time,
    ) -> Result<()> {
        Ok(())
    }

    async fn decide(
        &self,
        _: &mut Transaction,
        input: &DeviceUpdate,
        (mut device, live): Self::Locked,
        changes: &mut Changes,
    ) -> Result<()> {
        if input.etag.as_ref().is_some_and(|seen| *seen != device.etag()) {
            return Err(Error::EtagMismatch);
        }
        let differs = input.set.apply(&mut device);
        // Also if the device has the values already: a later session may show others.
        let shown = input.set.shown_by(&device, live);
        if differs || !shown.is_empty() {
            device.revision += i32::from(!differs);
            changes.update_device(device, &input.principal, &shown);
        }
        changes.record_request_of_device(input.request, &input.key, None);
        Ok(())
    }
}

impl Setting {
    /// Sets the values on the device; false if they are set already. Pure.
    pub(crate) fn apply(&self, device: &mut UserDevice) -> bool {
        let choice = Choice {
            display_name: self.display_name.clone().unwrap_or(device.choice.display_name.clone()),
            kind: self.kind.unwrap_or(device.choice.kind),
            trusted: self.trusted.unwrap_or(device.choice.trusted),
        };
        let differs = choice != device.choice;
        if differs {
            device.choice = choice;
            device.revision += 1;
        }
        differs
    }

    /// The sessions on `device` that change to show the values, after the change. Pure.
    pub(crate) fn shown_by(&self, device: &UserDevice, sessions: Vec<Session>) -> Vec<Session> {
        let show = |mut session: Session| {
            // The session may have ended before it was locked.
            if session.state != State::Active {
                return None;
            }
            let was = session.device.clone();
            if self.display_name.is_some() {
                session.device.details.name = device.shown_name().cloned();
            }
            if self.kind.is_some() {
                session.device.kind = device.shown_kind();
            }
            Some(session).filter(|session| session.device != was)
        };
        sessions.into_iter().filter_map(show).collect()
    }
}
