//! Connections: the pool, its time limits, and transactions.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use diesel::connection::TransactionManagerStatus;
use diesel::result::Error as DieselError;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod,
};
use diesel_async::{AnsiTransactionManager, SimpleAsyncConnection, TransactionManager};
use futures_util::FutureExt;
use prometheus::Histogram;

use crate::error::{Error, Outage, Result};
use crate::model::revocation::Revocation;
use crate::model::watermark::Watermark;
use crate::store::Connection;
use crate::store::tls::Target;

/// The longest wait for a free connection, or for a new one to be established.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(900);
/// The longest a unit of work takes, waiting included. With it a caller hears `UNAVAILABLE`
/// within two seconds, also from a database that silently stopped answering.
const WORK_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The longest a statement runs; `statement_timeout` in [`SERVER_TIMEOUTS`].
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Set on the server as well, in milliseconds: a query whose caller gave up must not run on.
const SERVER_TIMEOUTS: &str = "SET statement_timeout = 1200; SET lock_timeout = 500; \
     SET idle_in_transaction_session_timeout = 5000";

/// The database as everybody above uses it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Connection>,
    target: Arc<Target>,
    revoked: Arc<OnceLock<Revoked>>,
    waits: Arc<OnceLock<Histogram>>,
}

/// Hears what was revoked, once it is committed and before the caller is answered.
pub type Revoked = Box<dyn Fn(&[Revocation]) + Send + Sync>;

/// A connection of the pool.
pub struct Pooled {
    conn: bb8::PooledConnection<'static, AsyncDieselConnectionManager<Connection>>,
    since: Instant,
}

/// An open transaction. Dropped without [`Transaction::commit`], it takes its connection with it:
/// the pool refuses connections with an open transaction, and Postgres rolls back.
pub struct Transaction {
    conn: Pooled,
    db: Database,
    watermark: Option<Watermark>,
    revoked: Vec<Revocation>,
}

impl Database {
    /// Prepares a pool of at most `max_connections`; connects only when first used.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub fn new(url: &str, max_connections: u32) -> anyhow::Result<Database> {
        let target = Arc::new(Target::parse(url)?);
        let mut config = ManagerConfig::default();
        // No round trip, but a connection that the server closed meanwhile is not handed out.
        config.recycling_method = RecyclingMethod::CustomFunction(Box::new(
            |conn: &mut Connection| {
                let closed = conn.is_broken();
                async move { if closed { Err(DieselError::BrokenTransactionManager) } else { Ok(()) } }
                .boxed()
            },
        ));
        let for_pool = target.clone();
        config.custom_setup = Box::new(move |_| establish(for_pool.clone()).boxed());
        let pool = Pool::builder()
            .max_size(max_connections)
            .connection_timeout(ACQUIRE_TIMEOUT)
            // A refused connection is reported at once; bb8 would retry until its timeout.
            .retry_connection(false)
            .build_unchecked(AsyncDieselConnectionManager::new_with_config("", config));
        Ok(Database { pool, target, revoked: Arc::default(), waits: Arc::default() })
    }

    /// Takes a connection for statements that need no transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn acquire(&self) -> Result<Pooled> {
        let asked = Instant::now();
        let conn = self.pool.get_owned().await;
        if let Some(waits) = self.waits.get() {
            waits.observe(asked.elapsed().as_secs_f64());
        }
        Ok(Pooled { conn: conn?, since: Instant::now() })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn begin(&self) -> Result<Transaction> {
        let mut conn = self.acquire().await?;
        AnsiTransactionManager::begin_transaction(&mut *conn).await?;
        Ok(Transaction { conn, db: self.clone(), watermark: None, revoked: Vec::new() })
    }

    /// Whom to tell of what transactions of this process revoke. The first one stays.
    pub fn on_revoked(&self, hear: Revoked) {
        // A second one would be a mistake in the wiring, and nobody would hear of the loss.
        assert!(self.revoked.set(hear).is_ok(), "somebody hears already");
    }

    /// Where to count how long calls wait for a connection, in vain too. The first one stays.
    pub fn measure(&self, waits: Histogram) {
        assert!(self.waits.set(waits).is_ok(), "it is measured already");
    }

    /// Connections that are made, and of those the ones that nobody uses.
    pub fn connections(&self) -> (u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections)
    }

    /// Bounds `work`, which uses this database, in time.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Unavailable`] if it takes too long, its outcome then unknown.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(WORK_TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable(Outage::Timeout)),
        }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        self.within(async { Ok(self.acquire().await?.batch_execute("SELECT 1").await?) }).await
    }

    /// A connection of its own without the pool's time limits, for migrations.
    pub(super) async fn dedicated(&self) -> Result<Connection> {
        Ok(self.target.connect().await?)
    }
}

/// Bounded in all: the pool has a place taken for it until it ends, and a server that accepts and
/// then says nothing would keep that place for ever.
async fn establish(target: Arc<Target>) -> diesel::ConnectionResult<Connection> {
    let establishing = async {
        let mut conn = target.connect().await?;
        conn.batch_execute(SERVER_TIMEOUTS)
            .await
            .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    };
    tokio::time::timeout(ACQUIRE_TIMEOUT, establishing).await.unwrap_or_else(|_| {
        Err(diesel::ConnectionError::BadConnection("it accepts but does not answer".to_owned()))
    })
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // The server answers within this time, if only to say that it gave up. A connection held
        // for longer may have fallen silent for good, so the pool must not lend it again.
        if self.since.elapsed() >= STATEMENT_TIMEOUT {
            let status = AnsiTransactionManager::transaction_manager_status_mut(&mut *self.conn);
            *status = TransactionManagerStatus::InError;
        }
    }
}

impl Deref for Pooled {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.conn
    }
}

impl Transaction {
    /// Ends a transaction in which `error` was decided and nothing is to be written, and hands it back.
    /// Without this the refusal would cost its connection.
    pub async fn refuse(mut self, error: Error) -> Error {
        match AnsiTransactionManager::rollback_transaction(&mut *self.conn).await {
            Ok(()) => error,
            Err(lost) => lost.into(),
        }
    }

    /// Commits. Only after this returned ok may anybody hear of the changes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the acknowledgement was lost: the outcome is then unknown.
    pub async fn commit(mut self) -> Result<()> {
        // Whatever went wrong, it may have gone wrong after the commit: never a reason to do the
        // work again from here.
        let unknown =
            |error: DieselError| Error::Unavailable(Outage::Unreachable(error.to_string()));
        #[cfg(feature = "broken")]
        if crate::broken::is("loses-commits") && self.watermark.is_some() && crate::broken::seldom()
        {
            let undone = AnsiTransactionManager::rollback_transaction(&mut *self.conn).await;
            return undone.map_err(unknown);
        }
        let done =
            AnsiTransactionManager::commit_transaction(&mut *self.conn).await.map_err(unknown);
        // Also if it is unknown: forgetting what may be true costs a read.
        if let (false, Some(hear)) = (self.revoked.is_empty(), self.db.revoked.get()) {
            hear(&self.revoked);
        }
        done
    }

    /// What includes this transaction, once it has written something and is committed.
    pub fn watermark(&self) -> Option<Watermark> {
        self.watermark
    }

    /// Notes what was written.
    pub(super) fn wrote(&mut self, watermark: Watermark, revoked: Vec<Revocation>) {
        self.watermark = Some(watermark);
        self.revoked.extend(revoked);
    }
}

impl Deref for Transaction {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.conn
    }
}
