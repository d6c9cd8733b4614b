//! UpdateDevice: what somebody sets of a device. Its live sessions show it too, from the same commit on.

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::device::DeviceType;
use crate::model::ids::DeviceKey;
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{Session, State};
use crate::model::user_device::{Choice, UserDevice};
use crate::session::devices::not_found;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::{devices, requests, sessions};

/// Updates devices.
pub struct Update {
    db: Database,
    clock: Clock,
    touches: Touches,
}

/// What a caller asks for.
pub struct DeviceUpdate {
    pub key: DeviceKey,
    pub set: Setting,
    /// The revision the caller saw, if it matters to them.
    pub etag: Option<String>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// What to set; the outer `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// At most 128 characters; `None` = as the caller names the device.
    pub display_name: Option<Option<String>>,
    /// `None` = as creates tell.
    pub kind: Option<Option<DeviceType>>,
    pub trusted: Option<bool>,
}

impl Update {
    /// Updates devices of `db`.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> Update {
        Update { db, clock, touches }
    }

    /// Sets what is asked, which changes nothing where it is so already.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::EtagMismatch`], [`Error::RequestIdReused`],
    /// [`Error::Unavailable`].
    pub async fn update(&self, wish: &DeviceUpdate) -> Result<()> {
        let twice = async {
            match self.attempt(wish).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(wish).await,
                other => other,
            }
        };
        self.db.within(twice).await
    }

    async fn attempt(&self, wish: &DeviceUpdate) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        if let Some(request) = wish.request
            && let Some(known) = requests::before(&mut tx, &wish.key.tenant, request, now).await?
        {
            tx.commit().await?;
            return if known.request == request { Ok(()) } else { Err(Error::RequestIdReused) };
        }
        let shows = wish.set.display_name.is_some() || wish.set.kind.is_some();
        let mut live = match shows {
            true => sessions::lock_on_device(&mut tx, &wish.key, None).await?,
            false => Vec::new(),
        };
        let found = devices::lock(&mut tx, &wish.key).await?;
        let Some(mut device) = found else { return Err(tx.refuse(not_found(&wish.key)).await) };
        if wish.etag.as_ref().is_some_and(|seen| *seen != device.revision.to_string()) {
            return Err(tx.refuse(Error::EtagMismatch).await);
        }
        let mut changes = Changes::default();
        for session in &mut live {
            self.touches.overlay(session);
        }
        let differs = wish.set.apply(&mut device);
        // Also where it is set so already: a later session may show something else.
        changes.changed = wish.set.shown_by(&device, live);
        if differs || !changes.changed.is_empty() {
            device.revision += i32::from(!differs);
            let id = self.clock.new_id();
            let kind = ActivityKind::DeviceUpdated;
            changes.activities.push(Activity::of_device(id, now, kind, &wish.principal, &device));
            changes.devices.push(device);
        }
        changes.remembered.extend(wish.request.map(|request| remembered(&wish.key, request, now)));
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        tx.commit().await
    }
}

impl Setting {
    /// Sets it on the device; false if it is so already. Pure.
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

    /// Those of the sessions on `device` that change when they show what is set, changed. Pure.
    pub(crate) fn shown_by(&self, device: &UserDevice, sessions: Vec<Session>) -> Vec<Session> {
        let show = |mut session: Session| {
            // It may have ended before it was locked.
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

/// What a request did to a device.
pub(super) fn remembered(key: &DeviceKey, request: RequestId, at: Time) -> Remembered {
    Remembered {
        tenant: key.tenant.clone(),
        request,
        user: Some(key.user.clone()),
        subject: Some(key.device),
        related: Vec::new(),
        at,
    }
}
