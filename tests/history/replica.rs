//! One replica: the real server in its own runtime, so that it can be killed like a process.

use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use chrono::Duration as Span;
use sessiond::cache::feed::WatchSettings;
use sessiond::caller::authenticator::Callers;
use sessiond::clock::Clock;
use sessiond::config::edge;
use sessiond::model::detection::DetectionSettings;
use sessiond::model::policy::{Policy, SessionLimits};
use sessiond::server::{Intervals, Server, Settings};
use sessiond::session::location::Locator;
use sessiond::store::timeouts::DatabaseTimeouts;
use sessiond::token::jwk::SigningAlgorithm;
use sessiond::token::seal::MasterKey;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tonic::transport::Channel;

use crate::pause;
use crate::proxy::Proxy;

/// The staleness bound.
pub const BOUND: Duration = Duration::from_secs(1);
/// How long a used refresh token returns the same successor: G, and L while that is not confirmed.
pub const GRACE: Duration = Duration::from_secs(2);
pub const LOST_RESPONSE: Duration = Duration::from_secs(6);
/// The interval at which last activity is written: F.
pub const FLUSH: Duration = Duration::from_secs(1);

const WORKERS: usize = 2;

pub struct Replica {
    pub number: usize,
    pub proxy: Proxy,
    master_key: String,
    /// Chosen by the first start, and kept for the others.
    addr: OnceLock<SocketAddr>,
    running: Mutex<Option<Running>>,
}

struct Running {
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    stopped: oneshot::Receiver<()>,
}

impl Replica {
    pub fn new(number: usize, proxy: Proxy, master_key: String) -> Replica {
        let (addr, running) = (OnceLock::new(), Mutex::default());
        Replica { number, proxy, master_key, addr, running }
    }

    /// Starts it on a machine whose clock is wrong by `clock_error`; retries until it succeeds.
    pub async fn start(&self, clock_error: Span) {
        loop {
            match self.try_start(clock_error).await {
                Ok(()) => return,
                // The database is down, or the port is not free yet.
                Err(_) => pause(Duration::from_millis(100)).await,
            }
        }
    }

    async fn try_start(&self, clock_error: Span) -> anyhow::Result<()> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let name = format!("replica-{}", self.number);
        let runtime = runtime.worker_threads(WORKERS).enable_all().thread_name(name).build()?;
        let settings = self.settings();
        let bound = runtime.spawn(Server::bind(settings, Clock::system_off_by(clock_error))).await;
        let server = match bound.map_err(anyhow::Error::from).flatten() {
            Ok(server) => server,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        self.addr.get_or_init(|| server.addr().expect("a bound port"));
        let (stop, asked) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        runtime.spawn(async {
            let ended = server.run(async {
                // A dropped sender is a stop as well.
                let _ = asked.await;
            });
            // Neither its result nor a dropped receiver matters.
            let _ = ended.await;
            let _ = done.send(());
        });
        *self.lock() = Some(Running { runtime, stop: Some(stop), stopped });
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().expect("nobody panics while starting")
    }

    /// Kills it at once.
    pub fn kill(&self) {
        if let Some(running) = self.lock().take() {
            running.runtime.shutdown_background();
        }
    }

    /// Stops it in good order.
    pub async fn stop(&self) {
        let Some(mut running) = self.lock().take() else { return };
        drop(running.stop.take());
        // It ends by itself within its drain timeout and 4 s.
        let _ = tokio::time::timeout(Duration::from_secs(20), running.stopped).await;
        running.runtime.shutdown_background();
    }

    /// Freezes it for a while, like a process that was stopped by a signal.
    pub fn freeze(&self, lasts: Duration) {
        let running = self.lock();
        let Some(running) = &*running else { return };
        for _ in 0..WORKERS {
            running.runtime.spawn(async move {
                let (_nobody_sends, silence) = mpsc::channel::<()>();
                // Blocks a worker thread on purpose.
                let _ = silence.recv_timeout(lasts);
            });
        }
    }

    /// A lazy connection that reconnects when it breaks.
    pub fn channel(&self) -> Channel {
        let addr = self.addr.get().expect("it was started");
        let endpoint = Channel::from_shared(format!("http://{addr}")).expect("an address");
        endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy()
    }

    fn settings(&self) -> Settings {
        let proxy = self.proxy.addr;
        let listen = self.addr.get().copied();
        Settings {
            listen: listen.unwrap_or_else(|| "127.0.0.1:0".parse().expect("an address")),
            tls: None,
            dangerously_insecure: false,
            edge: edge::EdgeLimits {
                max_connection_rate_per_peer: 100_000,
                ..edge::EdgeLimits::default()
            },
            http_listen: None,
            callers: Callers::Open,
            reflection: false,
            database_url: format!("postgresql://sessiond@{proxy}/sessiond"),
            database_connections: 8,
            database_timeouts: DatabaseTimeouts::default(),
            master_key: MasterKey::parse(&self.master_key).expect("32 bytes"),
            issuer: "sessiond".to_owned(),
            policy: Policy {
                idle_timeout: Some(Span::hours(1)),
                absolute_timeout: Span::hours(24),
                access_token_ttl: Span::minutes(5),
                refresh_grace: Span::from_std(GRACE).expect("short"),
                lost_response_window: Span::from_std(LOST_RESPONSE).expect("short"),
                limits: SessionLimits::default(),
                acr_levels: ["aal1", "aal2", "aal3"].map(str::to_owned).to_vec(),
            },
            // The users do everything that a rule would detect.
            detection: DetectionSettings::off(),
            locator: Locator::default(),
            key_rotation: Duration::ZERO,
            key_algorithm: SigningAlgorithm::EdDsa,
            key_publish_ahead: Duration::from_secs(600),
            activity_retention: Duration::from_secs(400 * 86_400),
            staleness_bound: BOUND,
            cache_bytes: 8 << 20,
            rate_limit: 0,
            on_restore: Default::default(),
            position_file: None,
            refresh_limit: 0,
            traced: false,
            drain_timeout: Duration::from_secs(2),
            intervals: Intervals {
                flush: FLUSH,
                sweep: Duration::from_secs(10),
                ..Intervals::default()
            },
            watch: WatchSettings::default(),
        }
    }
}
