//! UpdateSession: the caller's data of an active session, and the name of the device it is on.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{Session, State};
use crate::model::user_device::UserDevice;
use crate::session::devices::update::Setting;
use crate::session::etag;
use crate::session::get::not_found;
use crate::session::mutation::{self, Mutation};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{devices, sessions};

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
        Ok(mutation::run(&self.db, &self.clock, self, wish).await?.answer)
    }
}

/// The session, and if its device gets a name, the device and the other sessions on it.
pub(crate) struct Locked {
    session: Session,
    others: Vec<Session>,
    device: Option<UserDevice>,
}

impl Mutation<SessionUpdate> for Update {
    type Locked = Locked;
    type Answer = Session;

    fn request(wish: &SessionUpdate) -> Option<(&TenantId, RequestId)> {
        Some((&wish.tenant, wish.request?))
    }

    async fn lock(&self, tx: &mut Transaction, wish: &SessionUpdate) -> Result<Locked> {
        let found = match &wish.user {
            Some(user) => {
                let (tenant, user) = (wish.tenant.clone(), user.clone());
                let key = SessionKey { tenant, user, session: wish.session };
                sessions::find(tx, &key).await?
            }
            None => sessions::find_by_id(tx, &wish.tenant, wish.session).await?,
        };
        let found = found.ok_or_else(|| not_found(wish.session))?;
        let names = wish.device.display_name.is_some();
        let key = found.device_key();
        let mut others = match names {
            true => sessions::lock_on_device(tx, &key, Some(wish.session)).await?,
            false => sessions::lock(tx, &[&found.key]).await?,
        };
        others.iter_mut().for_each(|session| self.touches.overlay(session));
        let at = others.iter().position(|session| session.key.session == wish.session);
        let session = others.swap_remove(at.ok_or_else(|| not_found(wish.session))?);
        let device = match names {
            // A session that a release before this made has no device yet.
            true => devices::lock(tx, &key).await?.or(Some(UserDevice::of_session(&session))),
            false => None,
        };
        Ok(Locked { session, others, device })
    }

    async fn repeat(
        &self,
        _: &mut Transaction,
        _: &SessionUpdate,
        locked: Locked,
        _: Remembered,
        now: Time,
    ) -> Result<Session> {
        Ok(locked.session.seen_at(now))
    }

    async fn decide(
        &self,
        _: &mut Transaction,
        wish: &SessionUpdate,
        Locked { mut session, others, device }: Locked,
        changes: &mut Changes,
    ) -> Result<Session> {
        if let State::Ended(end) = session.state_at(changes.at()) {
            return Err(Error::SessionEnded(end.reason));
        }
        if wish.etag.as_ref().is_some_and(|seen| *seen != etag::of(&session)) {
            return Err(Error::EtagMismatch);
        }
        let was = session.clone();
        if let Some(mut device) = device {
            let differs = wish.device.apply(&mut device);
            // Also where the device is named so already: a later session may show another name.
            if let Some(shown) = wish.device.shown_by(&device, vec![session.clone()]).pop() {
                session = shown;
            }
            if differs {
                let shown = wish.device.shown_by(&device, others);
                changes.update_device(device, &wish.principal, &shown);
            }
        }
        if let Some(metadata) = &wish.metadata {
            session.metadata.clone_from(metadata);
        }
        if session != was {
            changes.update_session(&session, &wish.principal);
        }
        changes.remember_session(wish.request, &session);
        Ok(session)
    }
}
