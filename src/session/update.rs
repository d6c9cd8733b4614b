//! UpdateSession: sets the metadata of an active session, and the name of its device.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{RecordedRequest, RequestId};
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
pub struct UpdateSession {
    db: Database,
    clock: Clock,
    touches: Touches,
}

/// What a caller asks for.
pub struct SessionUpdate {
    pub tenant: TenantId,
    /// Makes the query cheap; with a wrong user the session is not found.
    pub user: Option<UserId>,
    pub session: Uuid,
    /// Replaces all metadata; `None` leaves it unchanged.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The new name of the device; nothing else of it.
    pub device: Setting,
    /// The etag that the caller read, if the update depends on it.
    pub etag: Option<String>,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

impl UpdateSession {
    /// Updates sessions of `db`.
    pub fn new(db: Database, clock: Clock, touches: Touches) -> UpdateSession {
        UpdateSession { db, clock, touches }
    }

    /// Sets the requested values, and returns the session; changes nothing if they are set already.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], [`Error::EtagMismatch`],
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn update(&self, input: &SessionUpdate) -> Result<Session> {
        Ok(mutation::run(&self.db, &self.clock, self, input).await?.answer)
    }
}

/// The session, and, if its device gets a name, the device and the other sessions on it.
pub(crate) struct LockedSession {
    session: Session,
    others: Vec<Session>,
    device: Option<UserDevice>,
}

impl Mutation<SessionUpdate> for UpdateSession {
    type Locked = LockedSession;
    type Answer = Session;

    fn request(input: &SessionUpdate) -> Option<(&TenantId, RequestId)> {
        Some((&input.tenant, input.request?))
    }

    async fn lock(&self, tx: &mut Transaction, input: &SessionUpdate) -> Result<LockedSession> {
        let found = match &input.user {
            Some(user) => {
                let (tenant, user) = (input.tenant.clone(), user.clone());
                let key = SessionKey { tenant, user, session: input.session };
                sessions::find(tx, &key).await?
            }
            None => sessions::find_by_id(tx, &input.tenant, input.session).await?,
        };
        let found = found.ok_or_else(|| not_found(input.session))?;
        let names = input.device.display_name.is_some();
        let key = found.device_key();
        let mut others = match names {
            true => sessions::lock_on_device(tx, &key, Some(input.session)).await?,
            false => sessions::lock(tx, &[&found.key]).await?,
        };
        others.iter_mut().for_each(|session| self.touches.overlay(session));
        let at = others.iter().position(|session| session.key.session == input.session);
        let session = others.swap_remove(at.ok_or_else(|| not_found(input.session))?);
        let device = match names {
            // A session created by a release before this one has no device yet.
            true => devices::lock(tx, &key).await?.or(Some(UserDevice::of_session(&session))),
            false => None,
        };
        Ok(LockedSession { session, others, device })
    }

    async fn repeat(
        &self,
        _: &mut Transaction,
        _: &SessionUpdate,
        locked: LockedSession,
        _: RecordedRequest,
        now: Time,
    ) -> Result<Session> {
        Ok(locked.session.seen_at(now))
    }

    async fn decide(
        &self,
        _: &mut Transaction,
        input: &SessionUpdate,
        LockedSession { mut session, others, device }: LockedSession,
        changes: &mut Changes,
    ) -> Result<Session> {
        if let State::Ended(end) = session.state_at(changes.at()) {
            return Err(Error::SessionEnded(end.reason));
        }
        if input.etag.as_ref().is_some_and(|seen| *seen != etag::of(&session)) {
            return Err(Error::EtagMismatch);
        }
        let was = session.clone();
        if let Some(mut device) = device {
            let differs = input.device.apply(&mut device);
            // Also if the device has the name already: a later session may show another one.
            if let Some(shown) = input.device.shown_by(&device, vec![session.clone()]).pop() {
                session = shown;
            }
            if differs {
                let shown = input.device.shown_by(&device, others);
                changes.update_device(device, &input.principal, &shown);
            }
        }
        if let Some(metadata) = &input.metadata {
            session.metadata.clone_from(metadata);
        }
        if session != was {
            changes.update_session(&session, &input.principal);
        }
        changes.record_request_of_session(input.request, &session);
        Ok(session)
    }
}
