//! Connections: the pool, and its time limits.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::TransactionManagerStatus;
use diesel::result::Error as DieselError;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError, PoolableConnection, RecyclingMethod,
};
use diesel_async::{AnsiTransactionManager, SimpleAsyncConnection, TransactionManager};
use futures_util::FutureExt;
use prometheus::Histogram;
use tokio::runtime::Handle;

use crate::error::{Error, Outage, Result};
use crate::model::revocation::Revocation;
use crate::store::Connection;
use crate::store::probe::Probe;
use crate::store::target::{DatabaseTarget, ServerSettings};
use crate::store::timeouts::DatabaseTimeouts;

pub use crate::store::transaction::{Committed, Transaction};

/// A connection that was idle for so long may have been dropped by the network: it is probed before it is lent.
const STALE: Duration = Duration::from_secs(1);
/// The longest wait for its answer.
const ANSWER: Duration = Duration::from_millis(250);

const HELD: &str = "it is held until it is dropped";

/// Migrations have no limit, and a connection that is slow to establish is no reason to stop.
const UPKEEP: ServerSettings<'static> = ServerSettings {
    patience: Duration::from_secs(5),
    settings: "SET statement_timeout = 0; SET lock_timeout = 0; \
               SET idle_in_transaction_session_timeout = 0",
    to_any: false,
};
/// The database as the modules above use it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Connection>,
    timeouts: DatabaseTimeouts,
    target: Arc<DatabaseTarget>,
    revoked: Arc<OnceLock<OnRevoked>>,
    waits: Arc<OnceLock<Histogram>>,
    failed: Arc<LastRefusal>,
    probe: Arc<Probe>,
}

/// The last error of connecting, and its time: the pool only says that no connection became free.
type LastRefusal = Mutex<Option<(Instant, String)>>;

/// Called with what was revoked, after the commit and before the answer.
pub type OnRevoked = Box<dyn Fn(&[Revocation]) + Send + Sync>;

/// A connection of the pool.
pub struct Pooled {
    /// `None` only once it is dropped.
    conn: Option<Lent>,
    /// The time at which the server has answered at the latest, if only with a timeout.
    until: Instant,
}

type Lent = bb8::PooledConnection<'static, AsyncDieselConnectionManager<Connection>>;

impl Database {
    /// Prepares a pool of at most `max_connections`; connects only when first used.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub fn new(url: &str, max_connections: u32) -> anyhow::Result<Database> {
        Database::with_timeouts(url, max_connections, DatabaseTimeouts::default())
    }

    /// The same with other timeouts.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the URL.
    pub fn with_timeouts(
        url: &str,
        max_connections: u32,
        timeouts: DatabaseTimeouts,
    ) -> anyhow::Result<Database> {
        let settings =
            format!("{}; SET idle_in_transaction_session_timeout = 5000", timeouts.settings());
        let target = Arc::new(DatabaseTarget::parse(url)?);
        let mut config = ManagerConfig::default();
        config.recycling_method =
            RecyclingMethod::CustomFunction(Box::new(|conn: &mut Connection| lend(conn).boxed()));
        let failed = Arc::<LastRefusal>::default();
        let (for_pool, note) = (target.clone(), failed.clone());
        config.custom_setup = Box::new(move |_| {
            let (target, note, settings) = (for_pool.clone(), note.clone(), settings.clone());
            let establishing = async move {
                let requests = ServerSettings {
                    patience: timeouts.connection,
                    settings: &settings,
                    to_any: false,
                };
                let done = target.connect(requests).await;
                if let Err(error) = &done {
                    let why = Some((Instant::now(), error.to_string()));
                    *note.lock().unwrap_or_else(PoisonError::into_inner) = why;
                }
                done
            };
            establishing.boxed()
        });
        let pool = Pool::builder()
            .max_size(max_connections)
            .connection_timeout(timeouts.connection)
            // A refused connection is reported at once; bb8 would retry until its timeout.
            .retry_connection(false)
            .build_unchecked(AsyncDieselConnectionManager::new_with_config("", config));
        Ok(Database {
            pool,
            timeouts,
            target,
            revoked: Arc::default(),
            waits: Arc::default(),
            failed,
            probe: Arc::default(),
        })
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
        let conn = conn.map_err(|error| Error::Unavailable(self.outage(error, asked)))?;
        Ok(Pooled { conn: Some(conn), until: Instant::now() + self.timeouts.statement })
    }

    /// No connection was free: because all are busy, or because none could be made.
    fn outage(&self, error: bb8::RunError<PoolError>, asked: Instant) -> Outage {
        match error {
            bb8::RunError::User(error) => error.into(),
            bb8::RunError::TimedOut => {
                let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                match &*failed {
                    Some((at, why)) if *at >= asked => Outage::Unreachable(why.clone()),
                    _ => Outage::PoolExhausted,
                }
            }
        }
    }

    /// Sets the listener for revocations of this process. The first one stays.
    pub fn on_revoked(&self, on_revoked: OnRevoked) {
        // A second one would be a fault of the caller, and its loss would stay unseen.
        assert!(self.revoked.set(on_revoked).is_ok(), "somebody hears already");
    }

    /// The listener.
    pub(super) fn revoked(&self) -> Option<&OnRevoked> {
        self.revoked.get()
    }

    /// Sets the histogram of waits for a connection, failed ones included. The first one stays.
    pub fn measure(&self, waits: Histogram) {
        assert!(self.waits.set(waits).is_ok(), "it is measured already");
    }

    /// Its timeouts.
    pub fn timeouts(&self) -> DatabaseTimeouts {
        self.timeouts
    }

    /// The number of open connections, and how many of them are idle.
    pub fn connections(&self) -> (u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections)
    }

    /// Runs `work`, which uses this database, with a timeout.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Unavailable`] if it takes too long, its outcome then unknown.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.timeouts.work, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable(Outage::Timeout)),
        }
    }

    /// Checks that the database answers and takes writes, over a connection kept for this: a busy pool is no outage.
    /// Read-only.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        self.within(self.probe.ask(&self.target)).await
    }

    /// The newest timeline of the database that any connection found: another one after each promotion. 0 = none yet.
    pub fn timeline(&self) -> u32 {
        self.target.timeline()
    }

    /// A connection of its own without the pool's time limits, for migrations.
    pub(super) async fn dedicated(&self) -> Result<Connection> {
        Ok(self.target.connect(UPKEEP).await?)
    }
}

/// Whether a connection may be lent: not if the server closed it, or is silent.
async fn lend(conn: &mut Connection) -> diesel::QueryResult<()> {
    let lost = || DieselError::BrokenTransactionManager;
    if conn.is_broken() {
        return Err(lost());
    }
    if conn.idle() < STALE {
        return Ok(());
    }
    let asking = conn.batch_execute("SELECT 1");
    tokio::time::timeout(ANSWER, asking).await.unwrap_or_else(|_| Err(lost()))
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        // A connection held for longer may be dead, so the pool must not lend it again.
        if Instant::now() >= self.until {
            give_up(&mut conn);
        } else if conn.is_busy() && !conn.is_broken() {
            // Its caller gave up, and the server may still run the statement: the next user would wait behind it.
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(catch_up(conn))),
                Err(_) => give_up(&mut conn),
            }
        }
    }
}

/// Returns a connection to the pool once the server has finished its statements, if that is soon. There are never more
/// of these tasks than connections.
async fn catch_up(mut conn: Lent) {
    if !matches!(tokio::time::timeout(ANSWER, conn.catch_up()).await, Ok(Ok(()))) {
        give_up(&mut conn);
    }
}

/// Makes the pool close a connection when it is returned.
fn give_up(conn: &mut Connection) {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    *status = TransactionManagerStatus::InError;
}

impl Deref for Pooled {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect(HELD)
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.conn.as_mut().expect(HELD)
    }
}
