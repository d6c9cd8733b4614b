//! CreateSession: admits a new session under the limits that apply, ending others where the policy says.

mod batch;
mod birth;
mod conflict;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cache::policies::Policies;
use crate::clock::{Clock, Time};
use crate::error::{Result, Violation};
use crate::model::claims::CustomClaims;
use crate::model::device::ClientContext;
use crate::model::ids::{ClientId, TenantId, UserId};
use crate::model::policy::{Policy, SessionTimeouts};
use crate::model::request::RequestId;
use crate::model::session::Session;
use crate::model::token::TokenPair;
use crate::model::watermark::Watermark;
use crate::session::create::batch::CreatedSession;
use crate::session::lanes::Lanes;
use crate::supervise::Tasks;
use crate::token::conflict::Holder;
use crate::token::issuer::Issuer;
use uuid::Uuid;

pub use batch::CreateBatch as Parts;

/// Two lanes keep both the database and this side busy; more would only split the batches.
const LANES: usize = 2;

/// Creates sessions.
pub struct Create {
    lanes: Lanes<Parts>,
    issuer: Issuer,
    clock: Clock,
    /// What new sessions are held to.
    pub policies: Policies,
}

/// What a caller asks for.
pub struct NewSession {
    pub tenant: TenantId,
    pub user: UserId,
    pub client: ClientId,
    /// What was said of the user's client.
    pub context: ClientContext,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// `None` = at creation.
    pub auth_time: Option<Time>,
    /// Of the tenant and client.
    pub policy: Arc<Policy>,
    /// As `policy` allows, or what it does not: that refuses the create, unless it repeats one that was
    /// allowed.
    pub timeouts: Result<SessionTimeouts, Vec<Violation>>,
    /// Empty = the issuer.
    pub audiences: Vec<String>,
    pub scope: Option<String>,
    pub claims: Option<CustomClaims>,
    pub metadata: BTreeMap<String, String>,
    /// As it came.
    pub conflict_token: Option<String>,
    /// The sessions chosen to end for it: none without a token.
    pub victims: BTreeSet<Uuid>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// What came of it.
pub struct Created {
    pub session: Session,
    /// Of generation 1; `None` where a repeated request comes after a re-authentication superseded
    /// them, or their key was removed.
    pub tokens: Option<TokenPair>,
    /// The sessions that ended to make room.
    pub terminated: Vec<Session>,
    /// What includes their ends; `None` if there are none.
    pub watermark: Option<Watermark>,
}

impl NewSession {
    /// Whom a conflict token of this create is for.
    fn holder(&self) -> Holder<'_> {
        (&self.tenant, &self.user, &self.client)
    }
}

impl Create {
    /// Creates sessions under `policies`, in lanes that are `tasks`.
    pub fn new(policies: Policies, parts: Parts, tasks: &Tasks) -> Create {
        let (db, issuer, clock) = (parts.db.clone(), parts.issuer.clone(), parts.clock.clone());
        let lanes = Lanes::start(("create", LANES), tasks, &db, parts);
        Create { lanes, issuer, clock, policies }
    }

    /// Creates a session, or repeats the answer to a `request_id` that did so before.
    ///
    /// # Errors
    /// [`Error::Precondition`] with `SessionLimitReached` or `ConflictTokenInvalid`,
    /// [`Error::Conflict`], [`Error::RequestIdReused`], [`Error::Overloaded`],
    /// [`Error::Unavailable`].
    ///
    /// [`Error::Conflict`]: crate::error::Error::Conflict
    /// [`Error::Precondition`]: crate::error::Error::Precondition
    /// [`Error::RequestIdReused`]: crate::error::Error::RequestIdReused
    /// [`Error::Overloaded`]: crate::error::Error::Overloaded
    /// [`Error::Unavailable`]: crate::error::Error::Unavailable
    pub async fn create(&self, mut new: NewSession) -> Result<Created> {
        if new.audiences.is_empty() {
            new.audiences.push(self.issuer.name().to_owned());
        }
        let ttl = new.policy.access_token_ttl;
        let (CreatedSession { session, terminated, watermark }, keys) =
            self.lanes.submit(new).await?;
        // The first tokens are those of creation, also when a repeated request asks again: they
        // are derived, so they are the same. What a re-authentication proved is not for them.
        let tokens = match session.first_generation() {
            Some(first) => {
                let now = self.clock.now();
                self.issuer.pair(&keys, &first, first.created_at, ttl, now).await?
            }
            None => None,
        };
        Ok(Created { session, tokens, terminated, watermark })
    }
}
