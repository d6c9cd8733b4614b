//! The only wiring: puts the parts together, serves, and takes them down in order. One door for
//! `main` and for the tests.

mod jobs;
mod sampled;
mod settings;
mod synchronise;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};
use tower::layer::util::{Identity, Stack};

use crate::alert::{self, raise::Raise, read::Read, resolve::Resolve, rules::Rules, work::Work};
use crate::cache::feed::Hub;
use crate::cache::policies::Policies;
use crate::cache::seen::Seen;
use crate::cache::sessions::SessionReader;
use crate::cache::tail::Tail;
use crate::clock::Clock;
use crate::grpc::activity::Activities;
use crate::grpc::alert::AlertApi;
use crate::grpc::device::Devices;
use crate::grpc::health::Health;
use crate::grpc::meters::Calls;
use crate::grpc::observe::ObserveLayer;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::grpc::watch::Streams;
use crate::http::Http;
use crate::metrics::Metrics;
use crate::session::{
    apply_policy::ApplyPolicy, create, create::Create, detect::Detect, device, devices,
    erase::Erase, evaluate::Evaluate, expire::Expire, get::Get, get_policy::GetPolicy, list::List,
    list_activities::ListActivities, notice::Notices, reauthenticate::Reauthenticate,
    record_activities::RecordActivities, refresh::Refresh, retain::Retain, roll_up::RollUp,
    stats::Stats, terminate::Terminate, terminate_many::TerminateMany, touch::Touches,
    update::Update, update_policy::UpdatePolicy, validate::Validate, watch::Watch,
    watch_revocations::WatchRevocations,
};
use crate::store::migrations;
use crate::store::pool::Database;
use crate::token::conflict::ConflictTokens;
use crate::token::cursor::Cursors;
use crate::token::issuer::Issuer;
use crate::token::keyring::Keyring;
use crate::token::page::PageTokens;

pub use settings::{Intervals, Settings};

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
        let keyring = Arc::new(Keyring::open(&db, &settings.master_key, &clock).await?);
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("--listen {}", settings.listen))?;

        let metrics = Metrics::default();
        let http = match settings.http_listen {
            Some(addr) => Some(Http::bind(addr, metrics.clone(), keyring.clone()).await?),
            None => None,
        };
        let policies = Policies::new(settings.policy, settings.detection, db.clone());
        // A session is worth more bytes than its token.
        let (for_tokens, for_sessions) = (settings.cache_bytes / 3, settings.cache_bytes / 3 * 2);
        let issuer = Issuer::new(&settings.issuer, keyring.clone(), for_tokens);
        let pages = Arc::new(PageTokens::new(&keyring));
        let touches = Touches::new(db.clone());
        sampled::register(&metrics, &db, &touches);
        let seen = Seen::default();
        let bound = settings.staleness_bound;
        let reader = SessionReader::new(db.clone(), seen.clone(), bound, for_sessions, &metrics);
        let tail = Tail::new(db.clone(), reader.clone(), seen, clock.clone(), &metrics);
        let conflicts = ConflictTokens::new(&keyring);
        let locator = &settings.locator;
        let drain = CancellationToken::new();
        let hub = Hub::new(db.clone(), settings.watch);
        let cursors = Cursors::new(&keyring);
        let streams = Arc::new(Streams::new(cursors, settings.watch, clock.clone(), drain.clone()));
        let notices = Notices::new(db.clone(), clock.clone(), locator.clone());
        let parts = create::Parts {
            db: db.clone(),
            clock: clock.clone(),
            issuer: issuer.clone(),
            conflicts,
            touches: touches.clone(),
            notices: notices.clone(),
            locator: locator.clone(),
            reader: reader.clone(),
        };
        let create = Create::new(policies.clone(), parts);
        let refresh = Refresh::new(
            &db,
            clock.clone(),
            policies.clone(),
            issuer.clone(),
            touches.clone(),
            locator.clone(),
            reader.clone(),
        );
        let validate = Validate::new(
            reader.clone(),
            policies.clone(),
            issuer.clone(),
            touches.clone(),
            notices.clone(),
            clock.clone(),
        );
        let reauthenticate = Reauthenticate::new(
            db.clone(),
            clock.clone(),
            policies.clone(),
            issuer.clone(),
            touches.clone(),
            locator.clone(),
        );
        let apply = ApplyPolicy::new(db.clone(), clock.clone(), touches.clone(), policies.clone());
        let terminate = Terminate::new(db.clone(), clock.clone(), issuer, touches.clone());
        let terminate_many = || TerminateMany::new(db.clone(), clock.clone(), touches.clone());
        let roll_up = RollUp::new(db.clone(), clock.clone());
        let sessions = SessionApi {
            create,
            refresh,
            validate: Arc::new(validate),
            reauthenticate,
            terminate,
            terminate_many: terminate_many(),
            erase: Erase::new(db.clone(), clock.clone(), roll_up.clone()),
            get: Get::new(db.clone(), clock.clone(), touches.clone()),
            list: List::new(db.clone(), clock.clone(), touches.clone()),
            update: Update::new(db.clone(), clock.clone(), touches.clone()),
            devices: Devices {
                read: devices::read::Read::new(db.clone(), clock.clone(), touches.clone()),
                update: devices::update::Update::new(db.clone(), clock.clone(), touches.clone()),
                revoke: devices::revoke::Revoke::new(db.clone(), clock.clone(), terminate_many()),
            },
            get_policy: GetPolicy::new(db.clone(), policies.clone()),
            update_policy: UpdatePolicy::new(
                db.clone(),
                clock.clone(),
                policies.clone(),
                apply.clone(),
            ),
            watch: Watch::new(hub.clone()),
            watch_revocations: WatchRevocations::new(
                db.clone(),
                tail.clone(),
                clock.clone(),
                settings.watch.outage,
            ),
            activities: Activities {
                record: RecordActivities::new(db.clone(), clock.clone(), locator.clone()),
                list: ListActivities::new(db.clone()),
            },
            streams: streams.clone(),
            stats: Stats::new(db.clone(), clock.clone()),
            keyring,
            pages: pages.clone(),
            clock: clock.clone(),
        };
        let alerts = AlertApi {
            read: Read::new(db.clone()),
            work: Work::new(db.clone(), clock.clone()),
            resolve: Resolve::new(Work::new(db.clone(), clock.clone()), terminate_many()),
            raise: Raise::new(db.clone(), clock.clone()),
            rules: Rules::new(db.clone(), clock.clone(), policies.clone()),
            watch: alert::watch::Watch::new(hub),
            evaluate: Evaluate::new(db.clone(), policies.clone()),
            pages,
            streams,
            stats: alert::stats::Stats::new(db.clone(), clock.clone()),
            clock: clock.clone(),
        };
        let jobs = jobs::Jobs {
            expire: Expire::new(db.clone(), clock.clone(), touches.clone()),
            detect: Detect::new(db.clone(), clock.clone(), policies.clone(), touches.clone()),
            retain: Retain::new(db, clock.clone(), settings.activity_retention),
            apply,
            roll_up,
            touches,
            notices,
            reader,
            tail,
            locator: settings.locator,
            intervals: settings.intervals,
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
            .add_service(pb::session::session_service_server::SessionServiceServer::new(sessions))
            .add_service(pb::alert::alert_service_server::AlertServiceServer::new(alerts));
        let (health, drain_timeout) = (Health(reporter), settings.drain_timeout);
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
