//! What TerminateSessions is asked for, and what it answers.

use uuid::Uuid;

use crate::model::ids::{SessionKey, TenantId};
use crate::model::request::RequestId;
use crate::model::session::{EndReason, Session, SessionFilter, StateFilter};
use crate::model::watermark::Watermark;

/// The request for a mass termination.
pub struct MassTermination {
    pub tenant: TenantId,
    /// Its state is ignored: only active sessions end.
    pub filter: SessionFilter,
    pub except: Option<Uuid>,
    /// Excludes higher ids, which belong to later sessions unless a clock was set back since.
    pub up_to: Option<Uuid>,
    /// A reason of the service's own only for calls by the service itself.
    pub reason: EndReason,
    /// At most 512 characters.
    pub note: Option<String>,
    pub dry_run: bool,
    /// If more sessions match, none is ended.
    pub expected_max: Option<u32>,
    /// `None` in a dry run.
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The sessions ended by all calls of a request together, or, in a dry run, the sessions that would end.
#[derive(Default)]
pub struct MassTerminationResult {
    pub count: u64,
    /// The newest of them.
    pub sample: Vec<Session>,
    /// True if no session is left that matched at the start.
    pub complete: bool,
    /// True if only sessions are left that other transactions have locked, or that cannot be ended.
    pub held_up: bool,
    /// A watermark that includes these ends, if one was requested.
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
