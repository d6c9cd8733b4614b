//! ReauthenticateSession: the user proved again, or more, who they are. Both deadlines restart and
//! the tokens rotate; whoever holds a token from before holds nothing of what was proven since.

use std::sync::Arc;

use uuid::Uuid;

use crate::cache::policies::Policies;
use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::device::ClientContext;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::policy::Policy;
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{Authentication, Session, State};
use crate::model::token::TokenPair;
use crate::model::user_device::UserDevice;
use crate::session::get::not_found;
use crate::session::location::Locator;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{requests, sessions};
use crate::token::issuer::{Issuer, Ready};

/// Re-authenticates sessions.
pub struct Reauthenticate {
    db: Database,
    clock: Clock,
    policies: Policies,
    issuer: Issuer,
    touches: Touches,
    locator: Locator,
}

/// What a caller asks for.
pub struct Reauthentication {
    pub tenant: TenantId,
    /// Makes the look-up cheap, and must then be right.
    pub user: Option<UserId>,
    pub session: Uuid,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// `None` = now.
    pub auth_time: Option<Time>,
    /// What it states replaces what the session knew of its client.
    pub client: Option<ClientContext>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// What came of it.
pub struct Reauthenticated {
    pub session: Session,
    /// `None` where a repeated request comes after they were exchanged, superseded or ended, or their key was removed.
    pub tokens: Option<TokenPair>,
}

impl Reauthenticate {
    /// Re-authenticates sessions of `db` under `policies`.
    pub fn new(
        db: Database,
        clock: Clock,
        policies: Policies,
        issuer: Issuer,
        touches: Touches,
        locator: Locator,
    ) -> Reauthenticate {
        Reauthenticate { db, clock, policies, issuer, touches, locator }
    }

    /// Takes over the authentication, or repeats the answer to a `request_id` that did so before.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], [`Error::RequestIdReused`],
    /// [`Error::Unavailable`].
    pub async fn reauthenticate(&self, wish: &Reauthentication) -> Result<Reauthenticated> {
        let twice = async {
            match self.attempt(wish).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(wish).await,
                other => other,
            }
        };
        let (session, policy, keys) = self.db.within(twice).await?;
        // As of the rotation, so that a repetition gets the same tokens.
        let (at, ttl) = (session.chain.rotated_at, policy.access_token_ttl);
        let tokens = match keys {
            Some(keys) => self.issuer.pair(&keys, &session, at, ttl, self.clock.now()).await?,
            None => None,
        };
        Ok(Reauthenticated { session, tokens })
    }

    /// The session, its policy, and the keys, if its present tokens are those of this request.
    async fn attempt(
        &self,
        wish: &Reauthentication,
    ) -> Result<(Session, Arc<Policy>, Option<Ready>)> {
        let keys = self.issuer.ready().await?;
        let mut tx = self.db.begin().await?;
        let Some(mut session) = self.lock(&mut tx, wish).await? else {
            return Err(tx.refuse(not_found(wish.session)).await);
        };
        // Whoever waited for the lock now sees what the one before did.
        let now = self.clock.now();
        self.touches.overlay(&mut session);
        let scope = (&wish.tenant, &session.client.clone());
        let policy = self.policies.all_of(&mut tx, &[scope]).await?.pop();
        let policy = policy.ok_or_else(|| anyhow::anyhow!("one policy for each scope"))?;
        if let Some(request) = wish.request {
            let known = requests::find(&mut tx, &[(&wish.tenant, request.id)]).await?;
            if let Some(known) = known.into_iter().find(|known| known.holds_at(now)) {
                tx.commit().await?;
                let session = session.seen_at(now);
                let current = repeats(request, &known, &session)?;
                return Ok((session, policy, current.then_some(keys)));
            }
        }
        if let State::Ended(end) = session.state_at(now) {
            return Err(tx.refuse(Error::SessionEnded(end.reason)).await);
        }
        renew(&mut session, wish, &policy, now, keys.current_mac(now)?);
        let mut changes = Changes::default();
        let look_up = |ip| self.locator.locate(ip);
        if wish.client.as_ref().is_some_and(|client| session.locate(client, look_up)) {
            changes.devices.push(UserDevice::of_session(&session));
        }
        let (id, kind) = (self.clock.new_id(), ActivityKind::Reauthenticated);
        changes.activities.push(Activity::of_session(id, now, kind, &wish.principal, &session));
        changes.changed.push(session.clone());
        let remembered = wish.request.map(|request| Remembered::of_session(&session, request, now));
        changes.remembered.extend(remembered);
        changes.write(&mut tx).await?;
        tx.commit().await?;
        Ok((session, policy, Some(keys)))
    }

    async fn lock(&self, tx: &mut Transaction, wish: &Reauthentication) -> Result<Option<Session>> {
        let key = match &wish.user {
            Some(user) => {
                let (tenant, user) = (wish.tenant.clone(), user.clone());
                Some(SessionKey { tenant, user, session: wish.session })
            }
            None => sessions::find_by_id(tx, &wish.tenant, wish.session).await?.map(|s| s.key),
        };
        let Some(key) = key else { return Ok(None) };
        Ok(sessions::lock(tx, &[&key]).await?.pop())
    }
}

/// Whether the tokens of the first answer are the present ones: the session has neither rotated nor
/// ended since.
fn repeats(request: RequestId, known: &Remembered, session: &Session) -> Result<bool> {
    if known.request != request {
        return Err(Error::RequestIdReused);
    }
    let chain = &session.chain;
    let last = session.renewed_at == known.at && chain.generation == chain.min_generation;
    Ok(last && session.state == State::Active)
}

/// Starts the session anew at `now`, with the timeouts it has, or the policy's where those are
/// shorter by now.
fn renew(session: &mut Session, wish: &Reauthentication, policy: &Policy, now: Time, key_id: i16) {
    let absolute = session.absolute_expires_at - session.renewed_at;
    let absolute = absolute.min(policy.absolute_timeout);
    let idle = [session.idle_timeout, policy.idle_timeout].into_iter().flatten().min();
    session.idle_timeout = idle.map(|idle| idle.min(absolute));
    session.renewed_at = now;
    session.absolute_expires_at = now + absolute;
    session.last_active_at = session.last_active_at.max(now);
    session.sweep_at = session.deadline();
    session.prove(Authentication {
        acr: wish.acr.clone(),
        amr: wish.amr.clone(),
        auth_time: wish.auth_time.unwrap_or(now),
    });
    let chain = &mut session.chain;
    chain.generation += 1;
    chain.min_generation = chain.generation;
    chain.key_id = key_id;
    chain.rotated_at = now;
}
