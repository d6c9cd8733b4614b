//! A connection: diesel's, and the task that carries its bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{CacheSize, Instrumentation};
use diesel::pg::Pg;
use diesel::query_builder::{AsQuery, QueryFragment, QueryId};
use diesel::{ConnectionError, ConnectionResult, QueryResult};
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, AsyncConnectionCore, AsyncPgConnection,
    SimpleAsyncConnection,
};
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

use crate::store::in_flight::{InFlight, InFlightStatement};
use crate::store::writer::Member;

/// A connection to Postgres, set up as this service needs it.
pub struct Connection {
    inner: AsyncPgConnection,
    driver: Driver,
    /// `None` = it reads from any server.
    member: Option<Member>,
    refused_write: Arc<AtomicBool>,
    used_at: Instant,
    unanswered: InFlight,
}

/// Carries the bytes of a connection until it is dropped.
pub(super) struct Driver {
    task: JoinHandle<()>,
    notifications: mpsc::Receiver<()>,
}

impl Driver {
    /// Runs at once: without it `Client` waits for ever.
    pub(super) fn start<S, T>(mut connection: tokio_postgres::Connection<S, T>) -> Driver
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // One pending notification stands for all that follow it.
        let (notify, notifications) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            loop {
                match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(_))) => {
                        // Full: one is pending already.
                        let _ = notify.try_send(());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a connection to the database ended");
                        return;
                    }
                    None => return,
                }
            }
        });
        Driver { task, notifications }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A silent server would hold the task, and its descriptor, for ever.
        self.task.abort();
    }
}

impl Connection {
    /// Takes over a connection that is established.
    pub(super) async fn new(
        client: Client,
        driver: Driver,
        member: Option<Member>,
        refused_write: Arc<AtomicBool>,
    ) -> ConnectionResult<Connection> {
        let inner = AsyncPgConnection::try_from(client).await?;
        let (used_at, unanswered) = (Instant::now(), InFlight::default());
        Ok(Connection { inner, driver, member, refused_write, used_at, unanswered })
    }

    /// Notifications on the channels it listens to; it ends with the connection.
    pub fn notifications_stream(&mut self) -> impl Stream<Item = QueryResult<()>> + '_ {
        futures_util::stream::poll_fn(|cx| {
            self.driver.notifications.poll_recv(cx).map(|some| some.map(Ok))
        })
    }

    /// How it follows the writer of the database; `None` = it reads from any server.
    pub(super) fn member(&self) -> Option<&Member> {
        self.member.as_ref()
    }

    /// True once its server may not be the one that takes the writes.
    pub(super) fn is_outdated(&self) -> bool {
        self.member.as_ref().is_some_and(Member::is_outdated)
    }

    /// True while the server may still run a statement whose caller gave up: the next statement would wait behind it.
    pub(super) fn is_busy(&self) -> bool {
        self.unanswered.any()
    }

    /// Waits until the server has answered every statement.
    pub(super) async fn catch_up(&mut self) -> QueryResult<()> {
        self.inner.batch_execute("SELECT 1").await?;
        self.unanswered = InFlight::default();
        Ok(())
    }

    /// Marks it as used, and returns how long it was idle.
    pub(super) fn idle(&mut self) -> Duration {
        std::mem::replace(&mut self.used_at, Instant::now()).elapsed()
    }
}

impl SimpleAsyncConnection for Connection {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        let executing = std::pin::pin!(self.inner.batch_execute(query));
        self.unanswered.count(executing).await
    }
}

type Inner = AsyncPgConnection;

impl AsyncConnectionCore for Connection {
    type ExecuteFuture<'conn, 'query> =
        InFlightStatement<<Inner as AsyncConnectionCore>::ExecuteFuture<'conn, 'query>>;
    type LoadFuture<'conn, 'query> =
        InFlightStatement<<Inner as AsyncConnectionCore>::LoadFuture<'conn, 'query>>;
    type Stream<'conn, 'query> = <Inner as AsyncConnectionCore>::Stream<'conn, 'query>;
    type Row<'conn, 'query> = <Inner as AsyncConnectionCore>::Row<'conn, 'query>;
    type Backend = Pg;

    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Pg> + QueryId + 'query,
    {
        self.unanswered.count(AsyncConnectionCore::load(&mut self.inner, source))
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Pg> + QueryId + 'query,
    {
        let executing = AsyncConnectionCore::execute_returning_count(&mut self.inner, source);
        self.unanswered.count(executing)
    }
}

impl AsyncConnection for Connection {
    type TransactionManager = AnsiTransactionManager;

    async fn establish(_: &str) -> ConnectionResult<Self> {
        let rule = "connections are made by store::target alone";
        Err(ConnectionError::InvalidConnectionUrl(rule.to_owned()))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.inner.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.inner.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.inner.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.inner.set_prepared_statement_cache_size(size);
    }
}

impl PoolableConnection for Connection {
    fn is_broken(&mut self) -> bool {
        // When a server refuses to write, a new connection may reach its successor.
        self.inner.is_broken() || self.refused_write.load(Ordering::Relaxed) || self.is_outdated()
    }
}
