//! CreateSession: admits a new session under the limits in force, and ends others where the policy says so.

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

/// Two lanes keep both the database and this replica busy; more lanes would make smaller batches.
const LANES: usize = 2;

/// Creates sessions.
pub struct Create {
    lanes: Lanes<Parts>,
    issuer: Issuer,
    clock: Clock,
    /// The policies of new sessions.
    pub policies: Policies,
}

/// What a caller asks for.
pub struct NewSession {
    pub tenant: TenantId,
    pub user: UserId,
    pub client: ClientId,
    /// What the request states about the user's client.
    pub context: ClientContext,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    /// `None` = at creation.
    pub auth_time: Option<Time>,
    /// The policy of the tenant and client.
    pub policy: Arc<Policy>,
    /// The timeouts that `policy` allows, or the violations. These refuse the create, unless it repeats an allowed one.
    pub timeouts: Result<SessionTimeouts, Vec<Violation>>,
    /// Empty = the issuer.
    pub audiences: Vec<String>,
    pub scope: Option<String>,
    pub claims: Option<CustomClaims>,
    pub metadata: BTreeMap<String, String>,
    /// As received.
    pub conflict_token: Option<String>,
    /// The sessions to end, as the user chose; empty without a token.
    pub victims: BTreeSet<Uuid>,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The result of a create.
pub struct Created {
    pub session: Session,
    /// Of generation 1. `None` if a repeated request follows a re-authentication that superseded
    /// them, or if their key was removed.
    pub tokens: Option<TokenPair>,
    /// The sessions that were ended by the limits.
    pub terminated: Vec<Session>,
    /// A watermark that includes these ends; `None` if there are none.
    pub watermark: Option<Watermark>,
}

impl NewSession {
    /// The request that a conflict token of this create is bound to.
    fn holder(&self) -> Holder<'_> {
        (&self.tenant, &self.user, &self.client)
    }
}

impl Create {
    /// Creates sessions under `policies`, in lanes that run as `tasks`.
    pub fn new(policies: Policies, parts: Parts, tasks: &Tasks) -> Create {
        let (db, issuer, clock) = (parts.db.clone(), parts.issuer.clone(), parts.clock.clone());
        let lanes = Lanes::start(("create", LANES), tasks, &db, parts);
        Create { lanes, issuer, clock, policies }
    }

    /// Creates a session, or repeats the answer to an earlier request with the same `request_id`.
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
        // A create always answers with the first tokens, also to a repeated request: they are
        // derived, so they are the same. They never carry what a later re-authentication proved.
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
