//! The only wiring: puts the parts together, serves, and takes them down in order. One door for
//! `main` and for the tests.

mod jobs;
mod sampled;
mod settings;
mod synchronise;
mod wiring;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};
use tower::layer::util::{Identity, Stack};

use crate::clock::Clock;
use crate::grpc::health::Health;
use crate::grpc::meters::Calls;
use crate::grpc::observe::ObserveLayer;
use crate::grpc::pb;
use crate::http::Http;
use crate::metrics::Metrics;
use crate::session::device;
use crate::store::migrations;
use crate::store::pool::Database;
use wiring::Wired;

pub use settings::{Intervals, Settings};
pub use synchronise::synchronise;

/// A server that has its port, its database up to date and its keys.
pub struct Server {
    listener: TcpListener,
    http: Option<Http>,
    router: Router<Stack<ObserveLayer, Identity>>,
    health: Health,
    jobs: jobs::Jobs,
    /// Tells the streams to end, and the port to close.
    drain: CancellationToken,
    drain_timeout: Duration,
}

impl Server {
    /// Binds the port, migrates the database, loads or makes the keys.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub async fn bind(settings: Settings, clock: Clock) -> anyhow::Result<Server> {
        if !settings.listen.ip().is_loopback() {
            bail!(
                "--listen {}: callers are not authenticated, so only a loopback address is \
                 allowed; put a proxy with TLS and authentication in front",
                settings.listen
            );
        }
        // Nobody waits for it: who comes before it is done builds it or waits where it is used.
        std::thread::spawn(device::prepare);
        let db = Database::new(&settings.database_url, settings.database_connections)?;
        synchronise::synchronise(&db, &clock).await.context("the database's clock")?;
        let applied = migrations::run(&db, clock.now()).await.context("the database")?;
        if !applied.is_empty() {
            tracing::info!(migrations = ?applied, "database brought up to date");
        }
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("--listen {}", settings.listen))?;

        let metrics = Metrics::default();
        let drain = CancellationToken::new();
        let wired = Wired::new(&settings, &db, &clock, &metrics, &drain).await?;
        let http = match settings.http_listen {
            Some(addr) => Some(Http::bind(addr, metrics.clone(), wired.keys, clock.clone()).await?),
            None => None,
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTOR)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that clients can show the details of errors.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let router = tonic::transport::Server::builder()
            .layer(ObserveLayer(clock, Arc::new(Calls::new(&metrics))))
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(pb::session::session_service_server::SessionServiceServer::new(
                wired.sessions,
            ))
            .add_service(pb::alert::alert_service_server::AlertServiceServer::new(wired.alerts));
        let (health, drain_timeout) = (Health(reporter), settings.drain_timeout);
        let jobs = wired.jobs;
        Ok(Server { listener, http, router, health, jobs, drain, drain_timeout })
    }

    /// The address it listens on, with the port that was chosen if 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The same of the HTTP port, if there is one.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|http| http.addr().ok())
    }

    /// Serves until `shutdown`, then refuses new connections, lets calls in progress end within
    /// the drain timeout, and writes what is still in memory.
    ///
    /// # Errors
    /// The port fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (up, follow_up) = watch::channel(true);
        let following = tokio::spawn(self.health.clone().follow(follow_up.clone()));
        let stop = CancellationToken::new();
        let mut jobs = self.jobs.start(up, &stop);
        if let Some(http) = self.http {
            jobs.spawn(http.run(follow_up, self.drain.clone(), stop.clone()));
        }

        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let drain = self.drain;
        let draining = drain.clone().cancelled_owned();
        let serving = self.router.serve_with_incoming_shutdown(incoming, draining);
        tokio::pin!(serving);
        tokio::select! {
            result = &mut serving => result?,
            () = shutdown => {
                tracing::info!(timeout = ?self.drain_timeout, "draining");
                following.abort();
                self.health.end().await;
                drain.cancel();
                match tokio::time::timeout(self.drain_timeout, serving).await {
                    Ok(result) => result?,
                    Err(_) => tracing::warn!("calls still in progress are cut off"),
                }
            }
        }
        stop.cancel();
        while jobs.join_next().await.is_some() {}
        tracing::info!("stopped");
        Ok(())
    }
}
