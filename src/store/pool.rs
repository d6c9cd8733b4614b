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

/// A connection that nobody used for so long may have been dropped on its way: it is asked before it is lent.
const STALE: Duration = Duration::from_secs(1);
/// The longest wait for its answer.
const ANSWER: Duration = Duration::from_millis(250);

const HELD: &str = "it is held until it is dropped";

/// Migrations take as long as they take; a way that is slow to establish is no reason to give up.
const UPKEEP: ServerSettings<'static> = ServerSettings {
    patience: Duration::from_secs(5),
    settings: "SET statement_timeout = 0; SET lock_timeout = 0; \
               SET idle_in_transaction_session_timeout = 0",
    to_any: false,
};
/// The database as everybody above uses it. Cheap to clone.
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

/// Why a connection was last refused, and when: the pool only says that none became free.
type LastRefusal = Mutex<Option<(Instant, String)>>;

/// Hears what was revoked, once it is committed and before the caller is answered.
pub type OnRevoked = Box<dyn Fn(&[Revocation]) + Send + Sync>;

/// A connection of the pool.
pub struct Pooled {
    /// `None` only once it is dropped.
    conn: Option<Lent>,
    /// When the server has answered, if only to say that it gave up.
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

    /// Whom to tell of what transactions of this process revoke. The first one stays.
    pub fn on_revoked(&self, on_revoked: OnRevoked) {
        // A second one would be a mistake in the wiring, and the loss would go unseen.
        assert!(self.revoked.set(on_revoked).is_ok(), "somebody hears already");
    }

    /// The callback, if it is set.
    pub(super) fn revoked(&self) -> Option<&OnRevoked> {
        self.revoked.get()
    }

    /// Where to count how long calls wait for a connection, in vain too. The first one stays.
    pub fn measure(&self, waits: Histogram) {
        assert!(self.waits.set(waits).is_ok(), "it is measured already");
    }

    /// How long it may take.
    pub fn timeouts(&self) -> DatabaseTimeouts {
        self.timeouts
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
        match tokio::time::timeout(self.timeouts.work, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable(Outage::Timeout)),
        }
    }

    /// Checks that the database answers and takes writes, over a connection that is kept for this: a pool that is busy
    /// is no outage. Nothing is written.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        self.within(self.probe.ask(&self.target)).await
    }

    /// The newest timeline of the database that any connection met: another one after each promotion. 0 = none yet.
    pub fn timeline(&self) -> u32 {
        self.target.timeline()
    }

    /// A connection of its own without the pool's time limits, for migrations.
    pub(super) async fn dedicated(&self) -> Result<Connection> {
        Ok(self.target.connect(UPKEEP).await?)
    }
}

/// Whether a connection may be lent: not one that the server closed, nor one that fell silent.
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
        // A connection held for longer may have fallen silent for good, so the pool must not lend it again.
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

/// Hands a connection back once the server has done what it was asked, if that is soon. There are no more of these than
/// connections.
async fn catch_up(mut conn: Lent) {
    if !matches!(tokio::time::timeout(ANSWER, conn.catch_up()).await, Ok(Ok(()))) {
        give_up(&mut conn);
    }
}

/// Has the pool close a connection when it comes back.
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
