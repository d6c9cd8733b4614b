//! ReauthenticateSession: the user authenticated again, perhaps with more factors. Both deadlines
//! restart and the tokens rotate; an older token carries nothing that was proven since.

use std::sync::Arc;

use uuid::Uuid;

use crate::cache::policies::Policies;
use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::claims::CustomClaims;
use crate::model::device::ClientContext;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::policy::Policy;
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::revocation::Revocation;
use crate::model::session::{Authentication, Session, State};
use crate::model::token::TokenPair;
use crate::model::user_device::UserDevice;
use crate::model::watermark::Watermark;
use crate::session::get::not_found;
use crate::session::location::Locator;
use crate::session::mutation::{self, Mutation};
use crate::session::restore::Cutoff;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{sessions, watermark};
use crate::token::issuer::Issuer;

/// Re-authenticates sessions.
pub struct Reauthenticate {
    db: Database,
    clock: Clock,
    policies: Policies,
    issuer: Issuer,
    touches: Touches,
    locator: Locator,
    cutoff: Cutoff,
}

/// What a caller asks for.
pub struct Reauthentication {
    pub tenant: TenantId,
    /// Makes the query cheap; with a wrong user the session is not found.
    pub user: Option<UserId>,
    pub session: Uuid,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// `None` = now.
    pub auth_time: Option<Time>,
    /// The new scope, or none; the outer `None` leaves it unchanged.
    pub scope: Option<Option<String>>,
    /// The new claims, or none; the outer `None` leaves them unchanged.
    pub claims: Option<Option<CustomClaims>>,
    /// Replaces the stored context of the client, as far as stated.
    pub client: Option<ClientContext>,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The result of a re-authentication.
pub struct Reauthenticated {
    pub session: Session,
    /// `None` if a repeated request follows their exchange, a later re-authentication or the end of
    /// the session, or if their key was removed.
    pub tokens: Option<TokenPair>,
    /// A watermark that includes that the earlier tokens are superseded.
    pub watermark: Watermark,
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
        cutoff: Cutoff,
    ) -> Reauthenticate {
        Reauthenticate { db, clock, policies, issuer, touches, locator, cutoff }
    }

    /// Applies the authentication, or repeats the answer to an earlier request with the same `request_id`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::SessionEnded`], [`Error::RequestIdReused`],
    /// [`Error::Unavailable`].
    pub async fn reauthenticate(&self, input: &Reauthentication) -> Result<Reauthenticated> {
        let keys = self.issuer.ready().await?;
        let input = Keyed { input, mac: keys.current_mac(self.clock.now())? };
        let done = mutation::run(&self.db, &self.clock, self, &input).await?;
        let watermark = watermark::including(&self.db, done.watermark).await?;
        let Renewed { session, policy, current } = done.answer;
        // As of the rotation, so that a repetition gets the same tokens.
        let (at, ttl) = (session.chain.rotated_at, policy.access_token_ttl);
        let tokens = match current {
            true => self.issuer.pair(&keys, &session, at, ttl, self.clock.now()).await?,
            false => None,
        };
        Ok(Reauthenticated { session, tokens, watermark })
    }
}

/// A re-authentication with the MAC key of the generation that it makes.
struct Keyed<'a> {
    input: &'a Reauthentication,
    mac: i16,
}

/// The session, its policy, and whether its current tokens are those of this request.
struct Renewed {
    session: Session,
    policy: Arc<Policy>,
    current: bool,
}

impl<'a> Mutation<Keyed<'a>> for Reauthenticate {
    type Locked = (Session, Arc<Policy>);
    type Answer = Renewed;

    fn request<'w>(of: &'w Keyed<'a>) -> Option<(&'w TenantId, RequestId)> {
        Some((&of.input.tenant, of.input.request?))
    }

    async fn lock(&self, tx: &mut Transaction, of: &Keyed<'a>) -> Result<Self::Locked> {
        let input = of.input;
        let key = match &input.user {
            Some(user) => {
                let (tenant, user) = (input.tenant.clone(), user.clone());
                Some(SessionKey { tenant, user, session: input.session })
            }
            None => sessions::find_by_id(tx, &input.tenant, input.session).await?.map(|s| s.key),
        };
        let key = key.ok_or_else(|| not_found(input.session))?;
        let session = sessions::lock(tx, &[&key]).await?.pop();
        let mut session = session.ok_or_else(|| not_found(input.session))?;
        self.touches.overlay(&mut session);
        let scope = (&input.tenant, &session.client);
        let policy = self.policies.all_of(tx, &[scope]).await?.pop();
        let policy = policy.ok_or_else(|| anyhow::anyhow!("one policy for each scope"))?;
        Ok((session, policy))
    }

    async fn repeat(
        &self,
        tx: &mut Transaction,
        _: &Keyed<'a>,
        (session, policy): Self::Locked,
        known: RecordedRequest,
        now: Time,
    ) -> Result<Renewed> {
        tx.invalidate(Revocation::of_superseded(&session, now));
        let session = session.seen_at(now);
        let current = is_current(&known, &session);
        Ok(Renewed { session, policy, current })
    }

    async fn decide(
        &self,
        _: &mut Transaction,
        of: &Keyed<'a>,
        (mut session, policy): Self::Locked,
        changes: &mut Changes,
    ) -> Result<Renewed> {
        let input = of.input;
        self.cutoff.apply(&mut session, changes);
        if let State::Ended(end) = session.state_at(changes.at()) {
            return Err(Error::SessionEnded(end.reason));
        }
        renew(&mut session, input, &policy, changes.at(), of.mac);
        let look_up = |ip| self.locator.locate(ip);
        if input.client.as_ref().is_some_and(|client| session.locate(client, look_up)) {
            changes.see_device(UserDevice::of_session(&session));
        }
        changes.reauthenticate_session(&session, &input.principal);
        changes.record_request_of_session(input.request, &session);
        Ok(Renewed { session, policy, current: true })
    }
}

/// Whether the tokens of the first answer are still current: the session has neither rotated nor ended since.
fn is_current(known: &RecordedRequest, session: &Session) -> bool {
    let chain = &session.chain;
    let last = session.renewed_at == known.at && chain.generation == chain.min_generation;
    last && session.state == State::Active
}

/// Restarts the session at `now`, with its timeouts, or those of the policy if shorter.
fn renew(session: &mut Session, input: &Reauthentication, policy: &Policy, now: Time, key_id: i16) {
    let absolute = session.absolute_expires_at - session.renewed_at;
    let absolute = absolute.min(policy.absolute_timeout);
    let idle = [session.idle_timeout, policy.idle_timeout].into_iter().flatten().min();
    session.idle_timeout = idle.map(|idle| idle.min(absolute));
    session.renewed_at = now;
    session.absolute_expires_at = now + absolute;
    session.last_active_at = session.last_active_at.max(now);
    session.sweep_at = session.deadline();
    session.prove(Authentication {
        acr: input.acr.clone(),
        amr: input.amr.clone(),
        auth_time: input.auth_time.unwrap_or(now),
    });
    if let Some(scope) = &input.scope {
        session.scope.clone_from(scope);
    }
    if let Some(claims) = &input.claims {
        session.claims.clone_from(claims);
    }
    let chain = &mut session.chain;
    chain.generation += 1;
    chain.min_generation = chain.generation;
    chain.key_id = key_id;
    chain.rotated_at = now;
}
