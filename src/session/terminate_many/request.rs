//! What TerminateSessions is asked for, and what it answers.

use uuid::Uuid;

use crate::model::ids::{SessionKey, TenantId};
use crate::model::request::RequestId;
use crate::model::session::{EndReason, Session, SessionFilter, StateFilter};
use crate::model::watermark::Watermark;

/// What a caller asks for.
pub struct MassTermination {
    pub tenant: TenantId,
    /// Its state does not matter: only active sessions end.
    pub filter: SessionFilter,
    pub except: Option<Uuid>,
    /// None with a higher id: those began later, unless a clock was set back since.
    pub up_to: Option<Uuid>,
    /// One of the service's own only where it asks itself.
    pub reason: EndReason,
    /// At most 512 characters.
    pub note: Option<String>,
    pub dry_run: bool,
    /// More matching sessions than that are not ended.
    pub expected_max: Option<u32>,
    /// Never of a dry run.
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// What was ended, by all calls of a request together, or in a dry run would be.
#[derive(Default)]
pub struct MassTerminationResult {
    pub count: u64,
    /// The newest of them.
    pub sample: Vec<Session>,
    /// Nothing is left of what matched at the beginning.
    pub complete: bool,
    /// All that is left is what other transactions hold, or what cannot be ended.
    pub held_up: bool,
    /// What includes these ends, where any was asked for.
    pub watermark: Option<Watermark>,
}

impl MassTermination {
    pub(super) fn selecting(&self, state: StateFilter) -> SessionFilter {
        SessionFilter { state: Some(state), ..self.filter.clone() }
    }

    pub(super) fn is_of_whole_tenant(&self) -> bool {
        self.except.is_none() && self.filter == SessionFilter::default()
    }

    pub(super) fn names(&self, key: &SessionKey) -> bool {
        self.except != Some(key.session)
    }
}
