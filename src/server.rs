//! The server: builds and connects its parts, serves, and shuts them down in order. Both `main` and the tests start it
//! here.

mod jobs;
pub mod refuse;
mod routes;
mod sampled;
mod settings;
mod synchronise;
mod wiring;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::edge::Edge;
use crate::edge::tls::Certificates;
use crate::grpc::door::Door;
use crate::grpc::health::Health;
use crate::http::Http;
use crate::metrics::Metrics;
use crate::session::device;
use crate::store::migrations;
use crate::store::pool::Database;
use crate::supervise::{TaskNeed, Tasks};
use wiring::Wired;

pub use settings::{Intervals, Settings};
pub use synchronise::synchronise;

/// How long the jobs may take to end and to write the data still in memory. They need far less if the database answers.
/// Together with the end of telemetry it is less than 4 s, and with the drain timeout less than `TimeoutStopSec` of
/// `deploy/sessiond.service`.
const JOBS_END: Duration = Duration::from_secs(3);

/// A server with its port bound, its database migrated and its keys loaded.
pub struct Server {
    edge: Edge,
    http: Option<Http>,
    door: Arc<Door>,
    health: Health,
    jobs: jobs::Jobs,
    metrics: Metrics,
    tasks: Tasks,
    reload: watch::Sender<()>,
    /// Cancelled to end the streams and close the port.
    drain: CancellationToken,
    drain_timeout: Duration,
}

impl Server {
    /// Binds the port, migrates the database, and loads or creates the keys.
    ///
    /// # Errors
    /// If the settings, a file, the keys or the database cannot be used, or a port is taken. The text is for operators.
    pub async fn bind(settings: Settings, clock: Clock) -> anyhow::Result<Server> {
        let known = refuse::callers_known(settings.callers, settings.tls.as_ref());
        let tls = settings.tls.is_some();
        refuse::address(settings.listen, tls, known, settings.dangerously_insecure)?;
        // In the background: a request that needs the table before it is built waits for it or builds it.
        std::thread::spawn(device::prepare);
        let (url, connections) = (&settings.database_url, settings.database_connections);
        let db = Database::with_timeouts(url, connections, settings.database_timeouts)?;
        refuse::pooler(&db).await?;
        synchronise::synchronise(&db, &clock).await.context("the database's clock")?;
        let applied = migrations::run(&db, clock.now()).await.context("the database")?;
        if !applied.is_empty() {
            tracing::info!(migrations = ?applied, "database brought up to date");
        }
        refuse::database(&db).await?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("--listen {}", settings.listen))?;

        let metrics = Metrics::default();
        let tasks = Tasks::new(&metrics);
        let certificates = match settings.tls.clone() {
            Some(files) => Some(Certificates::open(files, &clock, &metrics)?),
            None => None,
        };
        let drain = CancellationToken::new();
        let edge = settings.edge.clone();
        let edge = Edge::new(listener, edge, certificates.clone(), &metrics, drain.clone());
        let wired =
            Wired::new(&settings, &db, &clock, &metrics, &tasks, certificates, &drain).await?;
        // Detect a restore before the first request, which could be answered from restored rows.
        if let Err(error) = wired.jobs.restores.look().await {
            tracing::warn!(%error, "it cannot be told yet whether the database was restored");
        }
        let http = match settings.http_listen {
            Some(addr) => Some(Http::bind(addr, metrics.clone(), wired.keys, clock.clone()).await?),
            None => None,
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        let routes = routes::Routes { sessions: wired.sessions, alerts: wired.alerts, health };
        let door = routes.door(&settings, wired.authenticator, clock, &metrics)?;
        let (health, drain_timeout) = (Health(reporter), settings.drain_timeout);
        let (jobs, reload) = (wired.jobs, watch::Sender::new(()));
        Ok(Server { edge, http, door, health, jobs, metrics, tasks, reload, drain, drain_timeout })
    }

    /// The local address, with the actual port if port 0 was requested.
    ///
    /// # Errors
    /// If the operating system cannot report the address.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.edge.addr()
    }

    /// The local address of the HTTP port, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|http| http.addr().ok())
    }

    /// A message on this channel makes the jobs check the certificate and geolocation files for changes at once.
    pub fn reload(&self) -> watch::Sender<()> {
        self.reload.clone()
    }

    /// Serves until `shutdown`, then refuses new connections, waits for calls in progress up to the drain timeout, and
    /// writes the data still in memory, for 3 s at most.
    ///
    /// # Errors
    /// None so far.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (up, follow_up) = watch::channel(true);
        let (stop, tasks) = (CancellationToken::new(), self.tasks);
        let mut jobs = self.jobs.start(up, self.reload.subscribe(), &tasks, &stop);
        let (health, is_up, down) = (self.health.clone(), follow_up.clone(), tasks.down());
        let following =
            tasks.supervise(&mut jobs, ("health", TaskNeed::Serving), &stop, move || {
                health.clone().follow(is_up.clone(), down.clone())
            });
        if let Some(http) = self.http {
            jobs.spawn(http.run(follow_up, tasks.clone(), self.drain.clone(), stop.clone()));
        }

        let drain = self.drain;
        let serving = self.edge.run(&self.metrics, &tasks, self.door, self.drain_timeout);
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => {}
            () = shutdown => {
                tracing::info!(timeout = ?self.drain_timeout, "draining");
                following.abort();
                self.health.end().await;
                drain.cancel();
                serving.await;
            }
        }
        stop.cancel();
        let ended = async { while jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(JOBS_END, ended).await.is_err() {
            tracing::warn!("jobs took too long to end: what was not written yet is lost");
        }
        tracing::info!("stopped");
        Ok(())
    }
}
