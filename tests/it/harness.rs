//! Starts the real server on port 0, on its own database, with a manual clock.

pub mod audit;
pub mod bystander;
pub mod callers;
pub mod calls;
pub mod cluster;
pub mod collector;
pub mod conflicts;
pub mod creates;
pub mod devices;
pub mod forge;
pub mod health;
pub mod keys;
pub mod load;
pub mod mutations;
pub mod pki;
pub mod policies;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod requests;
pub mod scrape;
pub mod stepping;
pub mod trials;
pub mod wait;
pub mod watch;
pub mod wire;

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{TimeZone, Utc};
use sessiond::cache::feed::WatchSettings;
use sessiond::caller::authenticator::Callers;
use sessiond::clock::Clock;
use sessiond::config::edge;
use sessiond::grpc::pb::alert_service_client::AlertServiceClient;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::model::detection::DetectionSettings;
use sessiond::model::lineage::OnRestore;
use sessiond::model::policy::{Policy, SessionLimits};
use sessiond::server::{Intervals, Server, Settings};
use sessiond::session::location::Locator;
use sessiond::store::timeouts::DatabaseTimeouts;
use sessiond::token::jwk::SigningAlgorithm;
use sessiond::token::seal::MasterKey;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use cluster::Db;

/// Seals the keys of every test database. Generated for each run: a constant would be a published secret.
pub static MASTER_KEY: LazyLock<String> = LazyLock::new(MasterKey::generate);

/// A running server. Dropping it aborts it; `stop` drains it.
pub struct TestServer {
    pub addr: SocketAddr,
    /// The address of the metrics port, if a test enables it.
    pub http: Option<SocketAddr>,
    pub clock: Clock,
    pub db: Db,
    channel: Channel,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<anyhow::Result<()>>,
}

/// A server with the settings as shipped, on a fresh database.
pub async fn start() -> TestServer {
    start_with(|_| {}).await
}

/// The same with changed settings.
pub async fn start_with(change: impl FnOnce(&mut Settings)) -> TestServer {
    start_on(Db::fresh().await, clock(), change).await
}

/// With the database timeouts as shipped, for tests of a database that blocks.
pub fn impatient(settings: &mut Settings) {
    settings.database_timeouts = DatabaseTimeouts::default();
}

/// A server on this database and clock: a restart, or another replica.
pub async fn start_on(db: Db, clock: Clock, change: impl FnOnce(&mut Settings)) -> TestServer {
    let mut settings = settings(db.url.clone());
    if db.is_shared() {
        // Longer timeouts, since a busy machine is not an outage.
        settings.database_timeouts = DatabaseTimeouts::default().times(4);
    }
    change(&mut settings);
    if settings.database_url != db.url {
        // The test is about the connection to the database.
        impatient(&mut settings);
    }
    let encrypted = settings.tls.is_some();
    let server = Server::bind(settings, clock.clone()).await.expect("the server binds");
    let (addr, http) = (server.addr().expect("a bound port"), server.http_addr());
    let (shutdown, stopped) = oneshot::channel();
    let running = tokio::spawn(server.run(async {
        // A dropped sender is a stop as well.
        let _ = stopped.await;
    }));
    let endpoint = Channel::from_shared(format!("http://{addr}")).expect("an address");
    let channel = match encrypted {
        // The test configures TLS for its own connections.
        true => endpoint.connect_lazy(),
        false => endpoint.connect().await.expect("the server accepts"),
    };
    TestServer { addr, http, clock, db, channel, shutdown: Some(shutdown), running }
}

/// A clock in the middle of a month, at a microsecond that is not round.
pub fn clock() -> Clock {
    let noon = Utc.with_ymd_and_hms(2026, 3, 14, 12, 0, 0).single().expect("a time");
    Clock::manual(noon + chrono::Duration::microseconds(123_457))
}

/// The settings as shipped, with short intervals of the jobs.
pub fn settings(database_url: String) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        tls: None,
        dangerously_insecure: false,
        edge: edge::EdgeLimits::default(),
        http_listen: None,
        callers: Callers::Open,
        reflection: true,
        database_url,
        database_connections: 6,
        database_timeouts: DatabaseTimeouts::default(),
        master_key: MasterKey::parse(&MASTER_KEY).expect("32 bytes"),
        issuer: "sessiond".to_owned(),
        policy: Policy {
            idle_timeout: Some(chrono::Duration::hours(1)),
            absolute_timeout: chrono::Duration::hours(24),
            access_token_ttl: chrono::Duration::minutes(5),
            refresh_grace: chrono::Duration::seconds(10),
            lost_response_window: chrono::Duration::hours(1),
            limits: SessionLimits::default(),
            acr_levels: ["aal1", "aal2", "aal3"].map(str::to_owned).to_vec(),
        },
        // Most tests do what a rule would detect.
        detection: DetectionSettings::off(),
        locator: Locator::default(),
        key_rotation: Duration::ZERO,
        key_algorithm: SigningAlgorithm::EdDsa,
        key_publish_ahead: Duration::from_secs(600),
        activity_retention: Duration::from_secs(400 * 86_400),
        staleness_bound: Duration::from_secs(1),
        cache_bytes: 8 << 20,
        rate_limit: 0,
        refresh_limit: 0,
        traced: false,
        on_restore: OnRestore::Alert,
        position_file: None,
        drain_timeout: Duration::from_secs(5),
        intervals: Intervals {
            flush: Duration::from_millis(30),
            sweep: Duration::from_millis(30),
            probe: Duration::from_millis(50),
            retain: Duration::from_millis(200),
            apply: Duration::from_millis(100),
            detect: Duration::from_millis(30),
            locations: Duration::from_millis(30),
            certificates: Duration::from_millis(20),
            insecure: Duration::from_secs(60),
            roll_up: Duration::from_millis(30),
            rotate: Duration::from_millis(200),
            restores: Duration::from_millis(100),
        },
        watch: WatchSettings {
            poll: Duration::from_millis(20),
            heartbeat: Duration::from_millis(100),
            ..WatchSettings::default()
        },
    }
}

impl TestServer {
    pub fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub fn alerts(&self) -> AlertServiceClient<Channel> {
        AlertServiceClient::new(self.channel.clone())
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Uses this channel for all further calls.
    pub fn speak_over(&mut self, channel: Channel) {
        self.channel = channel;
    }

    /// A channel with a connection of its own.
    pub async fn another_channel(&self) -> Channel {
        let address = Channel::from_shared(format!("http://{}", self.addr)).expect("an address");
        address.connect().await.expect("the server accepts")
    }

    /// Moves time forward.
    pub fn advance(&self, by: chrono::Duration) {
        self.clock.advance(by);
    }

    /// A second server on the same database and clock.
    pub async fn replica(&self) -> TestServer {
        self.replica_with(|_| {}).await
    }

    /// The same with changed settings.
    pub async fn replica_with(&self, change: impl FnOnce(&mut Settings)) -> TestServer {
        start_on(self.db.clone(), self.clock.clone(), change).await
    }

    /// Asks the server to stop, as SIGTERM does, without waiting for it.
    pub fn begin_stop(&mut self) {
        drop(self.shutdown.take());
    }

    /// Stops the server in good order and hands back its database and clock.
    pub async fn stop(mut self) -> (Db, Clock) {
        self.begin_stop();
        (&mut self.running).await.expect("no panic").expect("an orderly end");
        (self.db.clone(), self.clock.clone())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}
