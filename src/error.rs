//! The crate's one error type. Each variant becomes one gRPC code in `grpc/error.rs`.

use crate::model::conflict::Conflict;
use crate::model::session::EndReason;

/// What went wrong, in the terms of the contract (`proto/sessiond/v1/error_reason.proto`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a rule of the contract. Holds every violation found, never none.
    #[error("invalid request: {0:?}")]
    Invalid(Vec<Violation>),
    /// A page token that was not made for this list.
    #[error("invalid page token")]
    InvalidPageToken,
    /// A cursor that was not made for this watch, or lies where nothing was committed yet.
    #[error("invalid cursor")]
    InvalidCursor,
    /// A cursor of a time that may not be kept any more.
    #[error("cursor expired")]
    CursorExpired,
    /// A watcher that fell too far behind; it lost nothing.
    #[error("watch too slow")]
    WatchTooSlow,
    /// The server is about to stop; another one serves.
    #[error("stopping")]
    Stopping,
    /// A refresh token that cannot be honoured; how its session ended, where that is the cause.
    #[error("refresh refused: {reason:?}")]
    RefreshRefused { reason: Reason, ended: Option<EndReason> },
    /// The caller shows no credentials, or none that are good; never why not.
    #[error("unknown caller")]
    UnknownCaller,
    /// The caller may not do this. `message` is for people, `metadata` goes into `ErrorInfo`.
    #[error("not permitted: {message}")]
    NotPermitted { reason: Reason, message: String, metadata: Vec<(&'static str, String)> },
    /// The thing `name` of the proto type `kind` does not exist, or the caller may not know that it
    /// does.
    #[error("{kind} {name} not found")]
    NotFound { reason: Reason, kind: &'static str, name: String },
    /// The `request_id` was used before with another body.
    #[error("request_id reused")]
    RequestIdReused,
    /// The request is well formed, but the state of things refuses it. `message` is for people,
    /// `metadata` goes into `ErrorInfo`.
    #[error("precondition: {message}")]
    Precondition { reason: Reason, message: String, metadata: Vec<(&'static str, String)> },
    /// The session that was to change has ended, by a deadline or otherwise.
    #[error("session ended: {0:?}")]
    SessionEnded(EndReason),
    /// A limit asks which sessions end for the new one.
    #[error("session conflict: {0:?}")]
    Conflict(Box<Conflict>),
    /// Somebody else changed the thing since the caller read it.
    #[error("etag mismatch")]
    EtagMismatch,
    /// A bounded queue is full; nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// Called more often than allowed; nothing was done. When to come again.
    #[error("rate limited for {0:?}")]
    RateLimited(std::time::Duration),
    /// The database cannot be reached, or the outcome is unknown. Retrying is safe.
    #[error("unavailable: {0}")]
    Unavailable(Outage),
    /// A fault of ours. Logged once, where it becomes a status; callers see a fixed sentence.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

/// The result of everything that can fail with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the database could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Outage {
    /// No connection, or one that broke. Holds the driver's words, for the log.
    #[error("database unreachable: {0}")]
    Unreachable(String),
    /// All connections stayed busy for as long as a call waits for one.
    #[error("no free database connection")]
    PoolExhausted,
    /// A time limit of ours or of the server; the outcome is unknown.
    #[error("the database did not answer in time")]
    Timeout,
    /// Another transaction holds a lock for too long.
    #[error("a row stays locked: {0}")]
    Locked(String),
    /// Another transaction was first (deadlock, a request id taken meanwhile). What it did can be
    /// read now, so one more try settles it.
    #[error("lost a race: {0}")]
    Raced(String),
}

/// One broken rule: the field by its proto path, and the rule in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Such as `client.ip_address`.
    pub field: String,
    /// Such as `must be a UUID`; reads on after the field.
    pub rule: String,
}

impl Reason {
    /// The error of a session's end, for a call that needs it active.
    pub fn of_end(end: EndReason) -> Reason {
        if end.is_expiry() { Reason::SessionExpired } else { Reason::SessionTerminated }
    }
}

impl Error {
    /// This error for each of `count` callers who shared the failed work. Only outages keep their
    /// kind: nothing else befalls several callers at once.
    pub fn for_all<T>(&self, count: usize) -> Vec<Result<T>> {
        (0..count).map(|_| Err(self.again())).collect()
    }

    /// This error once more, for somebody else who shared the work.
    pub fn again(&self) -> Error {
        match self {
            Error::Unavailable(outage) => Error::Unavailable(outage.clone()),
            other => Error::Internal(anyhow::anyhow!("{other:#}")),
        }
    }
}

/// `ErrorInfo.reason`: what a caller can tell apart. One to one with the proto enum, which says what
/// each means and what to do about it.
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
