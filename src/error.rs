//! The crate's one error type. Each variant becomes one gRPC code in `grpc/error.rs`.

use crate::model::caller::usage::{CallKind, Share};
use crate::model::conflict::Conflict;
use crate::model::session::EndReason;

/// The error of a call, in the terms of the contract (`proto/sessiond/v1/error_reason.proto`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a rule of the contract. Holds every violation found, never none.
    #[error("invalid request: {0:?}")]
    Invalid(Vec<Violation>),
    /// A page token that was not made for this list.
    #[error("invalid page token")]
    InvalidPageToken,
    /// A cursor that was not made for this watch, or has a position beyond everything committed.
    #[error("invalid cursor")]
    InvalidCursor,
    /// A cursor so old that the changes after it may have been deleted.
    #[error("cursor expired")]
    CursorExpired,
    /// A watch stream whose client read too slowly; it can resume at its last cursor.
    #[error("watch too slow")]
    WatchTooSlow,
    /// The server is about to stop; another one can serve the call.
    #[error("stopping")]
    Stopping,
    /// A refresh token that is refused; `ended` is how its session ended, if that is the cause.
    #[error("refresh refused: {reason:?}")]
    RefreshRefused { reason: Reason, ended: Option<EndReason> },
    /// The caller sent no credentials, or invalid ones. Does not say why they are invalid.
    #[error("unknown caller")]
    UnknownCaller,
    /// The caller may not do this. `message` is for people, `metadata` goes into `ErrorInfo`.
    #[error("not permitted: {message}")]
    NotPermitted { reason: Reason, message: String, metadata: Vec<(&'static str, String)> },
    /// The resource `name` of the proto type `kind` does not exist, or the caller has no permission to see it.
    #[error("{kind} {name} not found")]
    NotFound { reason: Reason, kind: &'static str, name: String },
    /// The `request_id` was used before with another body.
    #[error("request_id reused")]
    RequestIdReused,
    /// The request is well formed, but the current state refuses it. `message` is for people, `metadata` goes into
    /// `ErrorInfo`.
    #[error("precondition: {message}")]
    Precondition { reason: Reason, message: String, metadata: Vec<(&'static str, String)> },
    /// The session to change has ended, by a deadline or otherwise.
    #[error("session ended: {0:?}")]
    SessionEnded(EndReason),
    /// A session limit requires a choice of the sessions that end for the new one.
    #[error("session conflict: {0:?}")]
    Conflict(Box<Conflict>),
    /// The resource was changed since the caller read it.
    #[error("etag mismatch")]
    EtagMismatch,
    /// A bounded queue is full; nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// As many calls of this kind are in progress as the share allows; nothing was done.
    #[error("{} of {} share: {limit} are in progress", kind.name(), share.name())]
    ShareUsedUp { kind: CallKind, share: Share, limit: u32 },
    /// The caller exceeds its rate limit; nothing was done. Holds the time until the next call is allowed.
    #[error("rate limited for {0:?}")]
    RateLimited(std::time::Duration),
    /// The database cannot be reached, or the outcome is unknown. Retrying is safe.
    #[error("unavailable: {0}")]
    Unavailable(Outage),
    /// A fault of the service. Logged once, where it becomes a status; callers see a fixed sentence.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

/// The result of everything that can fail with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the database could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Outage {
    /// No connection, or one that broke. Holds the driver's message, for the log.
    #[error("database unreachable: {0}")]
    Unreachable(String),
    /// No connection of the pool became free within the acquire timeout.
    #[error("no free database connection")]
    PoolExhausted,
    /// A timeout of the client or of the server; the outcome is unknown.
    #[error("the database did not answer in time")]
    Timeout,
    /// Another transaction held a lock for too long.
    #[error("a row stays locked: {0}")]
    Locked(String),
    /// Another transaction was first (deadlock, a request id taken meanwhile). Its result can be read now, so one retry
    /// settles it.
    #[error("lost a race: {0}")]
    Raced(String),
}

/// One broken rule: the field by its proto path, and the rule in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Such as `client.ip_address`.
    pub field: String,
    /// Such as `must be a UUID`; continues a sentence that begins with the field.
    pub rule: String,
}

impl Reason {
    /// The reason for a call that needs the session active.
    pub fn of_end(end: EndReason) -> Reason {
        if end.is_expiry() { Reason::SessionExpired } else { Reason::SessionTerminated }
    }
}

impl Error {
    /// This error for each of `count` callers who shared the failed work. Only outages keep their kind: no other error
    /// applies to several callers at once.
    pub fn for_all<T>(&self, count: usize) -> Vec<Result<T>> {
        (0..count).map(|_| Err(self.again())).collect()
    }

    /// A copy of this error, for another caller who shared the work.
    pub fn again(&self) -> Error {
        match self {
            Error::Unavailable(outage) => Error::Unavailable(outage.clone()),
            other => Error::Internal(anyhow::anyhow!("{other:#}")),
        }
    }
}

/// `ErrorInfo.reason`: the cases that a client can distinguish. One to one with the proto enum, which says what each
/// means and how to handle it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    InvalidField,
    PageTokenInvalid,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionTerminated,
    SessionExpired,
    SessionDataRegression,
    SessionNotFound,
    AlertNotFound,
    SessionLimitReached,
    AlertStateInvalid,
    EtagMismatch,
    ExpectedMaxExceeded,
    RequestIdReused,
    Overloaded,
    DatabaseUnavailable,
    Internal,
    DeviceNotFound,
    RefreshTokenSuperseded,
    SessionConflict,
    ConflictTokenInvalid,
    AlertWithoutUser,
    AlertNotesFull,
    CursorExpired,
    CursorInvalid,
    WatchTooSlow,
    Stopping,
    RateLimited,
    CallerUnauthenticated,
    CallerNotPermitted,
    TenantNotPermitted,
    AudienceNotPermitted,
    MessageUnreadable,
    MessageTooLarge,
    MethodUnknown,
    DeadlineExceeded,
}
