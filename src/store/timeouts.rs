//! Time limits of the database.

use std::time::Duration;

/// Time limits of the database. A call that exceeds one of them gets `UNAVAILABLE`.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseTimeouts {
    /// The longest wait for a free connection, or for a new one to be established.
    pub connection: Duration,
    /// The longest a unit of work takes, waiting included.
    pub work: Duration,
    /// The longest a call waits for work that is done in batches: in the queue, and for its batch.
    pub call: Duration,
    /// The longest a statement runs: `statement_timeout`.
    pub statement: Duration,
    /// The longest a statement waits for a lock: `lock_timeout`.
    pub lock: Duration,
}

impl Default for DatabaseTimeouts {
    /// As shipped. A caller gets `UNAVAILABLE` within two seconds, also if the database silently stopped answering.
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
    /// The same limits, so many times as long.
    pub fn times(self, factor: u32) -> DatabaseTimeouts {
        DatabaseTimeouts {
            connection: self.connection * factor,
            work: self.work * factor,
            call: self.call * factor,
            statement: self.statement * factor,
            lock: self.lock * factor,
        }
    }

    /// The settings of the server, in milliseconds: a query whose caller gave up must end.
    pub(super) fn settings(self) -> String {
        let (statement, lock) = (self.statement.as_millis(), self.lock.as_millis());
        format!("SET statement_timeout = {statement}; SET lock_timeout = {lock}")
    }
}
