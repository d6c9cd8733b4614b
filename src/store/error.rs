//! From database errors to the crate's, by SQLSTATE: what is an outage, a lost race, a fault.

use diesel::result::{ConnectionError, DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::PoolError;

use crate::error::{Error, Outage};
use crate::store::wire;

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Error {
        use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
        match error {
            DieselError::DatabaseError(ClosedConnection | UnableToSendCommand, info) => {
                Error::Unavailable(Outage::Unreachable(info.message().to_owned()))
            }
            // A row for the default partition, while the partition that is to have it was made: it names the table and, unlike
            // any other check of one, no constraint (`ExecPartitionCheckEmitError` of PostgreSQL). A second try finds
            // the partition.
            DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, info)
                if info.table_name().is_some() && info.constraint_name().is_none() =>
            {
                Error::Unavailable(Outage::Raced(info.message().to_owned()))
            }
            DieselError::DatabaseError(_, info) => by_code(info.message()),
            DieselError::BrokenTransactionManager => {
                Error::Unavailable(Outage::Unreachable(error.to_string()))
            }
            DieselError::RollbackErrorOnCommit { commit_error, .. } => (*commit_error).into(),
            _ => Error::Internal(error.into()),
        }
    }
}

/// By the code that [`wire`] put into the message. Its text is only for people.
fn by_code(message: &str) -> Error {
    let code = wire::split(message).map_or("", |(code, _)| code);
    let said = message.to_owned();
    Error::Unavailable(match (code, code.get(..2)) {
        // A deadlock, a failed serialization; two requests with one id, of which a second try sees the winner.
        ("40001" | "40P01" | "23505", _) => Outage::Raced(said),
        ("55P03", _) => Outage::Locked(said),
        // Cancelled by statement_timeout, or ended because its transaction took too long.
        ("57014" | "25P03" | "25P04", _) => Outage::Timeout,
        // Read-only: another server may have taken over. Then the errors of connections, resources, the server and its
        // machine.
        ("25006", _) | (_, Some("08" | "53" | "57" | "58")) => Outage::Unreachable(said),
        _ => return Error::Internal(anyhow::anyhow!("database: {said}")),
    })
}

impl From<PoolError> for Outage {
    fn from(error: PoolError) -> Outage {
        Outage::Unreachable(error.to_string())
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Error {
        Error::Unavailable(Outage::Unreachable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(message: &str) -> &'static str {
        match by_code(message) {
            Error::Unavailable(Outage::Raced(_)) => "raced",
            Error::Unavailable(Outage::Locked(_)) => "locked",
            Error::Unavailable(Outage::Timeout) => "timeout",
            Error::Unavailable(Outage::Unreachable(_)) => "unreachable",
            Error::Internal(_) => "internal",
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_error_is_what_its_code_says_in_any_language() {
        for (codes, expected) in [
            ("40001 40P01 23505", "raced"),
            ("55P03", "locked"),
            ("57014 25P03 25P04", "timeout"),
            ("08000 08003 08006 08P01 25006 53000 53100 53200 53300 53400", "unreachable"),
            ("57000 57P01 57P02 57P03 57P04 57P05 58000 58030", "unreachable"),
            // Data, rights, statements, settings, and faults of the server: none is solved by a retry.
            ("0A000 22001 22P05 23502 23503 23514 25001 26000 28000 42501 42601 42P01", "internal"),
            ("3D000 55000 55006 P0001 XX000 XX001 XX002 F0000", "internal"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(kind(&format!("{code}: Verklemmung entdeckt")), expected, "{code}");
            }
        }
        assert_eq!(kind("canceling statement due to lock timeout"), "internal");
    }
}
