//! Safe retries of a mutation: what a `request_id` did.

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::ids::{TenantId, UserId};
use crate::model::session::Session;

/// How long a `request_id` is stored.
pub const REMEMBERED_FOR: Duration = Duration::hours(24);

/// A caller's `request_id` with the SHA-256 of the method and the rest of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// Derived from the principal's name and the id that it chose.
    pub id: Uuid,
    /// SHA-256; tells a retry from another request under the same id.
    pub fingerprint: [u8; 32],
}

/// What a request did: ids from which its answer is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    pub tenant: TenantId,
    pub request: RequestId,
    /// Whose session, device or alert it was; `None` if it found none.
    pub user: Option<UserId>,
    /// The session, device or alert that it made or changed; `None` if it found none.
    pub subject: Option<Uuid>,
    /// The sessions that it ended; or the newest session of that time, if it ends all up to it.
    pub related: Vec<Uuid>,
    pub at: Time,
}

/// The progress of a request that runs in steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Its subject is where the next step begins; related are the first sessions that ended.
    pub request: RecordedRequest,
    /// What it did in all steps so far.
    pub count: u64,
    /// There is no next step.
    pub complete: bool,
}

impl RecordedRequest {
    /// What a request did that made or changed `session` at `at`.
    pub fn of_session(session: &Session, request: RequestId, at: Time) -> RecordedRequest {
        RecordedRequest {
            tenant: session.key.tenant.clone(),
            request,
            user: Some(session.key.user.clone()),
            subject: Some(session.key.session),
            related: Vec::new(),
            at,
        }
    }

    /// Up to which session it ends those of a user; `None` if there was none.
    pub fn newest(&self) -> Option<Uuid> {
        self.related.first().copied()
    }

    /// True while a repetition must get the first answer.
    pub fn holds_at(&self, now: Time) -> bool {
        now < self.at + REMEMBERED_FOR
    }
}
