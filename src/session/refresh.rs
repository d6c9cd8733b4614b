//! RefreshSession: exchanges a refresh token for the next pair. Tokens are not stored; the chain in
//! the row of the session gives the meaning of each generation (`rotation`).

mod batch;
mod rate;

use crate::cache::policies::Policies;
use crate::cache::sessions::SessionReader;
use crate::clock::{Clock, Time};
use crate::error::{Error, Reason, Result};
use crate::model::caller::principal::Caller;
use crate::model::device::ClientContext;
use crate::model::session::Session;
use crate::model::token::TokenPair;
use crate::session::lanes::Lanes;
use crate::session::location::Locator;
use crate::session::refresh::batch::{RefreshBatch, RefreshJob};
use crate::session::restore::Cutoff;
use crate::session::touch::Touches;
use crate::store::pool::Database;
use crate::supervise::Tasks;
use crate::token::issuer::Issuer;
use crate::token::refresh;

pub use rate::Rate;

const LANES: usize = 2;

/// Refreshes sessions.
pub struct Refresh {
    lanes: Lanes<RefreshBatch>,
    issuer: Issuer,
    clock: Clock,
}

/// A refreshed session, as committed at `at`.
pub struct Refreshed {
    pub session: Session,
    /// From when the access token is valid.
    pub at: Time,
    pub tokens: TokenPair,
}

impl Refresh {
    /// Refreshes sessions of `db` under `policies`, each at most as often as `rate` allows, in
    /// lanes that run as `tasks`.
    #[expect(clippy::too_many_arguments, reason = "each is a part that a batch needs")]
    pub fn new(
        db: &Database,
        rate: Rate,
        clock: Clock,
        policies: Policies,
        issuer: Issuer,
        touches: Touches,
        locator: Locator,
        reader: SessionReader,
        cutoff: Cutoff,
        tasks: &Tasks,
    ) -> Refresh {
        let (db, own, own_clock) = (db.clone(), issuer.clone(), clock.clone());
        let batch = RefreshBatch {
            db,
            rate,
            clock,
            policies,
            issuer: own,
            touches,
            locator,
            reader,
            cutoff,
        };
        let lanes = Lanes::start(("refresh", LANES), tasks, &batch.db.clone(), batch);
        Refresh { lanes, issuer, clock: own_clock }
    }

    /// Exchanges `token` for `caller`. A token of a tenant that the caller may not access is
    /// answered as an unknown one. What `client` states replaces the stored context of the client.
    ///
    /// # Errors
    /// [`Error::RefreshRefused`] for a token that is not accepted, [`Error::RateLimited`],
    /// [`Error::Overloaded`], [`Error::Unavailable`]: retry with the same token.
    pub async fn refresh(
        &self,
        token: &str,
        client: Option<ClientContext>,
        caller: &Caller,
    ) -> Result<Refreshed> {
        let mut presented = refresh::decode(token).ok_or_else(invalid)?;
        if !caller.may_see(&presented.claims.key.tenant) {
            presented.claims.key = presented.claims.key.nowhere();
        }
        // Here and not in the batch: a made-up key id makes only its own call wait.
        let now = self.clock.now();
        if !self.issuer.ready_for([&presented].into_iter(), now).await?.knows(&presented, now) {
            return Err(invalid());
        }
        let principal = caller.name.clone();
        let refreshed = self.lanes.submit(RefreshJob { presented, client, principal }).await;
        #[cfg(debug_assertions)]
        if refreshed.is_err() && crate::broken::is("outage-is-logout") {
            return Err(invalid());
        }
        let (session, at, ttl, keys) = refreshed?;
        // Without the key of its generation there are no tokens to return.
        let tokens = self.issuer.pair(&keys, &session, at, ttl, at).await?.ok_or_else(invalid)?;
        Ok(Refreshed { session, at, tokens })
    }
}

/// A token that was not issued here, or not for this session. The answer says no more.
fn invalid() -> Error {
    Error::RefreshRefused { reason: Reason::RefreshTokenInvalid, ended: None }
}
