//! The crate's one error type. Each variant becomes one gRPC code in `grpc/error.rs`.

use crate::model::session::EndReason;

/// What went wrong, in the terms of the contract (`proto/session/v1/error_reason.proto`).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a rule of the contract. Holds every violation found, never none.
    #[error("invalid request: {0:?}")]
    Invalid(Vec<Violation>),
    /// A page token that was not made for this list.
    #[error("invalid page token")]
    InvalidPageToken,
    /// A refresh token that cannot be honoured; how its session ended, where that is the cause.
    #[error("unauthenticated: {reason:?}")]
    Unauthenticated { reason: Reason, ended: Option<EndReason> },
    /// The named thing does not exist, or the caller may not know that it does.
    #[error("{kind} {name} not found")]
    NotFound { reason: Reason, kind: &'static str, name: String },
    /// The `request_id` was used before with another body.
    #[error("request_id reused")]
    RequestIdReused,
    /// The request is well formed, but the state of things refuses it.
    #[error("precondition: {message}")]
    Precondition { reason: Reason, message: String, metadata: Vec<(&'static str, String)> },
    /// Somebody else changed the thing since the caller read it.
    #[error("etag mismatch")]
    EtagMismatch,
    /// A bounded queue is full; nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// It cannot be told now, or the outcome is unknown. Retrying is safe.
    #[error("unavailable: {0}")]
    Unavailable(Outage),
    /// A fault of ours. Logged once, where it becomes a status; callers see a fixed sentence.
    #[error("internal: {0:#}")]
    Internal(#[from] anyhow::Error),
}

/// The result of everything that can fail with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the database could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Outage {
    #[error("database unreachable: {0}")]
    Unreachable(String),
    #[error("no free database connection")]
    PoolExhausted,
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
    pub field: String,
    pub rule: String,
}

impl Error {
    /// The same error for one more caller who shared the failed work. Only outages keep their
    /// kind: nothing else befalls several callers at once.
    pub fn for_each(&self) -> Error {
        match self {
            Error::Unavailable(outage) => Error::Unavailable(outage.clone()),
            other => Error::Internal(anyhow::anyhow!("{other:#}")),
        }
    }
}

/// `ErrorInfo.reason`: what a caller can tell apart. One to one with the proto enum.
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
    RequestIdReused,
    Overloaded,
    DatabaseUnavailable,
    Internal,
}
