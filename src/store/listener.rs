//! A dedicated connection that reads revocations and receives notifications of new ones.

use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use futures_util::{FutureExt, StreamExt};

use crate::error::{Error, Outage, Result};
use crate::model::feed::Horizon;
use crate::store::pool::Database;
use crate::store::revocations::{self, NewRevocations};
use crate::store::{Connection, feed, writer};

const CHANNEL: &str = "sessiond_revocations";

/// Reads revocations, outside the pool: it never waits for requests.
pub struct Listener {
    conn: Connection,
    patience: Duration,
}

impl Listener {
    /// Connects. From then on each operation that takes longer than `patience` is an error.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connect(db: &Database, patience: Duration) -> Result<Listener> {
        let connecting = async {
            let mut conn = db.dedicated().await?;
            // This side closes a connection to a silent server. The server cancels a statement by itself.
            conn.batch_execute("SET statement_timeout = 1200").await?;
            conn.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
            Ok(conn)
        };
        let conn = within(patience.max(Duration::from_millis(900)), connecting).await?;
        Ok(Listener { conn, patience })
    }

    /// Everything that has committed by now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also if another server takes the writes by now.
    pub async fn now(&mut self) -> Result<Horizon> {
        let looking = async {
            let now = feed::now(&mut self.conn).await?;
            writer::check(&mut self.conn).await?;
            Ok(now)
        };
        within(self.patience, looking).await
    }

    /// What was revoked since `from`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also if another server takes the writes by now.
    pub async fn since(&mut self, from: &Horizon, limit: usize) -> Result<NewRevocations> {
        within(self.patience, revocations::since(&mut self.conn, from, limit)).await
    }

    /// Waits for a notification. Only an optimisation: nothing may depend on it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the connection is lost.
    pub async fn notified(&mut self) -> Result<()> {
        let mut notifications = std::pin::pin!(self.conn.notifications_stream());
        match notifications.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Error::Unavailable(Outage::Unreachable("closed".to_owned()))),
        }
        // One poll suffices for any number of notifications.
        while let Some(Some(Ok(_))) = notifications.next().now_or_never() {}
        Ok(())
    }
}

/// Notifies the readers of all replicas; in a transaction of its own, since a notification within that of a change
/// holds up all commits of the cluster behind one lock.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn notify(db: &Database) -> Result<()> {
    let notify = format!("NOTIFY {CHANNEL}");
    db.within(async { Ok(db.acquire().await?.batch_execute(&notify).await?) }).await
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Unavailable(Outage::Timeout)),
    }
}
