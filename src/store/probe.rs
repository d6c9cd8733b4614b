//! Whether the database takes writes, checked over a connection kept for this.

use std::time::Duration;

use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;
use tokio::sync::Mutex;

use crate::error::{Error, Outage, Result};
use crate::store::connection::Connection;
use crate::store::target::{DatabaseTarget, ServerSettings};

/// Read-only; no call waits for it.
const SESSION: ServerSettings<'static> = ServerSettings {
    patience: Duration::from_millis(900),
    settings: "SET statement_timeout = 1200; SET lock_timeout = 500; \
               SET idle_in_transaction_session_timeout = 0",
    to_any: true,
};

statement! {
    State {} -> (Bool, Bool),
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean"
}

/// The connection; `None` = not connected.
#[derive(Default)]
pub(super) struct Probe(Mutex<Option<Connection>>);

impl Probe {
    /// Checks, and writes nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`], with the reason.
    pub(super) async fn ask(&self, target: &DatabaseTarget) -> Result<()> {
        let mut kept = self.0.lock().await;
        let mut conn = match kept.take() {
            Some(conn) => conn,
            None => target.connect(SESSION).await?,
        };
        // A connection that fails, or times out, is not kept; nor one whose server takes no writes: another server
        // behind the same address may.
        let (in_recovery, read_only) = State::new().get_result::<(bool, bool)>(&mut conn).await?;
        let why = match (in_recovery, read_only) {
            (true, _) => "it takes no writes: it is a standby, or recovers",
            (false, true) => "it takes no writes: it is read-only",
            (false, false) if conn.is_outdated() => {
                "it is a former primary: another server was promoted"
            }
            (false, false) => {
                *kept = Some(conn);
                return Ok(());
            }
        };
        Err(Error::Unavailable(Outage::Unreachable(why.to_owned())))
    }
}
