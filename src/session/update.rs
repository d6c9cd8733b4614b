//! UpdateSession: the caller's data of an active session, and the name of the device it is on.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{Session, State};
use crate::model::user_device::UserDevice;
use crate::session::devices::update::Setting;
use crate::session::etag;
use crate::session::get::not_found;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{devices, requests, sessions};

/// Updates sessions.
pub struct Update {
    db: Database,
    clock: Clock,
    touches: Touches,
}

/// What a caller asks for.
pub struct SessionUpdate {
    pub tenant: TenantId,
    /// Makes the look-up cheap, and must then be right.
    pub user: Option<UserId>,
    pub session: Uuid,
    /// In place of all there is; `None` leaves it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The name of the device, at most.
    pub device: Setting,
    /// The etag the caller saw, if it matters to them.
    pub etag: Option<String>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

impl Update {
    /// Updates sessions of `db`.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> Update {
        Update { db, clock, touches }
    }

    /// Sets what is asked, and returns the session; nothing changes where it is so already.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], [`Error::EtagMismatch`],
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn update(&self, wish: &SessionUpdate) -> Result<Session> {
        let twice = async {
            match self.attempt(wish).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(wish).await,
                other => other,
            }
        };
        self.db.within(twice).await
    }

    async fn attempt(&self, wish: &SessionUpdate) -> Result<Session> {
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        let found = match &wish.user {
            Some(user) => {
                let (tenant, user) = (wish.tenant.clone(), user.clone());
                let key = SessionKey { tenant, user, session: wish.session };
                sessions::find(&mut tx, &key).await?
            }
            None => sessions::find_by_id(&mut tx, &wish.tenant, wish.session).await?,
        };
        if let Some(request) = wish.request
            && let Some(known) = requests::before(&mut tx, &wish.tenant, request, now).await?
        {
            tx.commit().await?;
            let mut found = found.filter(|_| known.request == request);
            found.iter_mut().for_each(|session| self.touches.overlay(session));
            return found.map(|found| found.seen_at(now)).ok_or(Error::RequestIdReused);
        }
        let Some(found) = found else { return Err(tx.refuse(not_found(wish.session)).await) };
        let (mut session, others, device) = self.lock(&mut tx, wish, found).await?;
        if let State::Ended(end) = session.state_at(now) {
            return Err(tx.refuse(Error::SessionEnded(end.reason)).await);
        }
        if wish.etag.as_ref().is_some_and(|seen| *seen != etag::of(&session)) {
            return Err(tx.refuse(Error::EtagMismatch).await);
        }
        let changes = self.decide(wish, &mut session, others, device, now);
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(session)
    }

    /// Locks what changes: the session, and if its device gets a name, the device and the others on it.
    async fn lock(
        &self,
        tx: &mut Transaction,
        wish: &SessionUpdate,
        found: Session,
    ) -> Result<(Session, Vec<Session>, Option<UserDevice>)> {
        let names = wish.device.display_name.is_some();
        let key = found.device_key();
        let mut locked = match names {
            true => sessions::lock_on_device(tx, &key, Some(wish.session)).await?,
            false => sessions::lock(tx, &[&found.key]).await?,
        };
        locked.iter_mut().for_each(|session| self.touches.overlay(session));
        let at = locked.iter().position(|session| session.key.session == wish.session);
        let session = locked.swap_remove(at.ok_or_else(|| not_found(wish.session))?);
        let device = match names {
            // A session that a release before this made has no device yet.
            true => devices::lock(tx, &key).await?.or(Some(UserDevice::of_session(&session))),
            false => None,
        };
        Ok((session, locked, device))
    }

    /// Changes the session, and what else shows it.
    fn decide(
        &self,
        wish: &SessionUpdate,
        session: &mut Session,
        others: Vec<Session>,
        device: Option<UserDevice>,
        now: Time,
    ) -> Changes {
        let mut changes = Changes::default();
        let was = session.clone();
        if let Some(mut device) = device {
            let differs = wish.device.apply(&mut device);
            // Also where the device is named so already: a later session may show another name.
            if let Some(shown) = wish.device.shown_by(&device, vec![session.clone()]).pop() {
                *session = shown;
            }
            if differs {
                changes.changed = wish.device.shown_by(&device, others);
                let (id, kind) = (self.clock.new_id(), ActivityKind::DeviceUpdated);
                let activity = Activity::of_device(id, now, kind, &wish.principal, &device);
                changes.activities.push(activity);
                changes.devices.push(device);
            }
        }
        if let Some(metadata) = &wish.metadata {
            session.metadata.clone_from(metadata);
        }
        if *session != was {
            let id = self.clock.new_id();
            let kind = ActivityKind::SessionUpdated;
            changes.activities.push(Activity::of_session(id, now, kind, &wish.principal, session));
            changes.changed.push(session.clone());
        }
        let remembered = wish.request.map(|request| Remembered::of_session(session, request, now));
        changes.remembered.extend(remembered);
        changes
    }
}
