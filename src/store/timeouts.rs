//! How long the database may take.

use std::time::Duration;

/// How long the database may take. What runs into one of these is `UNAVAILABLE`.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseTimeouts {
    /// The longest wait for a free connection, or for a new one to be established.
    pub connection: Duration,
    /// The longest a unit of work takes, waiting included.
    pub work: Duration,
    /// The longest a call waits for work that is done in batches: for its turn, and for the work.
    pub call: Duration,
    /// The longest a statement runs: `statement_timeout`.
    pub statement: Duration,
    /// The longest a statement waits for a lock: `lock_timeout`.
    pub lock: Duration,
}

impl Default for DatabaseTimeouts {
    /// As shipped. A call is answered `UNAVAILABLE` within two seconds, also from a database that silently stopped
    /// answering.
    fn default() -> DatabaseTimeouts {
        DatabaseTimeouts {
            connection: Duration::from_millis(900),
            work: Duration::from_millis(1_500),
            call: Duration::from_millis(1_900),
            statement: Duration::from_millis(1_200),
            lock: Duration::from_millis(500),
        }
    }
}

impl DatabaseTimeouts {
    /// Those so many times as long.
    pub fn times(self, factor: u32) -> DatabaseTimeouts {
        DatabaseTimeouts {
            connection: self.connection * factor,
            work: self.work * factor,
            call: self.call * factor,
            statement: self.statement * factor,
            lock: self.lock * factor,
        }
    }

    /// The server's own timeout, in milliseconds: a query whose caller gave up must not run on.
    pub(super) fn settings(self) -> String {
        let (statement, lock) = (self.statement.as_millis(), self.lock.as_millis());
        format!("SET statement_timeout = {statement}; SET lock_timeout = {lock}")
    }
}
