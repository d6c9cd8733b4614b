//! From database errors to the crate's: what is an outage, a lost race, a fault.

use diesel::result::{ConnectionError, DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::PoolError;

use crate::error::{Error, Outage};

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Error {
        match &error {
            DieselError::DatabaseError(kind, info) => {
                let text = info.message().to_owned();
                match kind {
                    DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                        Error::Unavailable(Outage::Unreachable(text))
                    }
                    DatabaseErrorKind::SerializationFailure
                    // Two requests with one id met; a second try sees the winner.
                    | DatabaseErrorKind::UniqueViolation => {
                        Error::Unavailable(Outage::Raced(text))
                    }
                    _ => by_text(text),
                }
            }
            DieselError::BrokenTransactionManager => {
                Error::Unavailable(Outage::Unreachable(error.to_string()))
            }
            DieselError::RollbackErrorOnCommit { commit_error, .. } => {
                by_text(commit_error.to_string())
            }
            _ => Error::Internal(error.into()),
        }
    }
}

/// diesel-async keeps no SQLSTATE for the conditions that its `DatabaseErrorKind` does not name,
/// so the server's fixed English texts stand in for them. Only a superuser may set `lc_messages`, so
/// the README asks the operator to. An unknown text is an internal error.
fn by_text(text: String) -> Error {
    const OUTAGE: [&str; 12] = [
        "terminating connection",
        "the database system is",
        "connection closed",
        "connection reset",
        "error communicating with the server",
        "broken pipe",
        "cannot execute",
        "remaining connection slots",
        "too many clients",
        "could not write",
        "could not extend file",
        "no space left",
    ];
    let lower = text.to_lowercase();
    let any = |patterns: &[&str]| patterns.iter().any(|pattern| lower.contains(pattern));
    if any(&["deadlock detected", "could not serialize access"]) {
        Error::Unavailable(Outage::Raced(text))
    } else if any(&["canceling statement due to lock timeout"]) {
        Error::Unavailable(Outage::Locked(text))
    } else if lower.contains("canceling statement") {
        Error::Unavailable(Outage::Timeout)
    } else if any(&OUTAGE) {
        Error::Unavailable(Outage::Unreachable(text))
    } else {
        Error::Internal(anyhow::anyhow!("database: {text}"))
    }
}

impl From<bb8::RunError<PoolError>> for Error {
    fn from(error: bb8::RunError<PoolError>) -> Error {
        Error::Unavailable(match error {
            bb8::RunError::TimedOut => Outage::PoolExhausted,
            bb8::RunError::User(error) => Outage::Unreachable(error.to_string()),
        })
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Error {
        Error::Unavailable(Outage::Unreachable(error.to_string()))
    }
}
