//! The settings of a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::feed::WatchSettings;
use crate::caller::authenticator::Callers;
use crate::config::edge::EdgeLimits;
use crate::config::tls::TlsFiles;
use crate::model::detection::DetectionSettings;
use crate::model::lineage::OnRestore;
use crate::model::policy::Policy;
use crate::session::location::Locator;
use crate::store::timeouts::DatabaseTimeouts;
use crate::token::jwk::SigningAlgorithm;
use crate::token::seal::MasterKey;

/// The settings that a server starts with.
pub struct Settings {
    /// Port 0 = any free port. Any address but loopback needs TLS and authenticated callers.
    pub listen: SocketAddr,
    /// `None` = no TLS.
    pub tls: Option<TlsFiles>,
    /// Whether the server may listen on any address without TLS and authenticated callers.
    pub dangerously_insecure: bool,
    /// The limits of connections and calls.
    pub edge: EdgeLimits,
    /// The loopback address for metrics, health and keys. `None` = no such port.
    pub http_listen: Option<SocketAddr>,
    /// Which callers are accepted.
    pub callers: Callers,
    /// Whether the reflection services are served.
    pub reflection: bool,
    /// The connection URL, as `store/tls.rs` parses it.
    pub database_url: String,
    /// The most connections of the pool, 2 or more.
    pub database_connections: u32,
    /// The timeouts of database operations.
    pub database_timeouts: DatabaseTimeouts,
    pub master_key: MasterKey,
    /// `iss` of access tokens.
    pub issuer: String,
    /// The built-in policy, for settings that no tenant or client decides.
    pub policy: Policy,
    /// The settings of the detection rules.
    pub detection: DetectionSettings,
    /// Looks up the geolocation of IP addresses.
    pub locator: Locator,
    /// How long a key signs until a successor is published; zero = until an operator rotates it.
    pub key_rotation: Duration,
    /// The algorithm of the first key for access tokens.
    pub key_algorithm: SigningAlgorithm,
    /// How long a key is published before it signs.
    pub key_publish_ahead: Duration,
    /// How long the audit trail is kept. Whole months are dropped, so up to a month longer.
    pub activity_retention: Duration,
    /// How stale the cached data may be that a token is validated against; zero = each validation reads the database.
    pub staleness_bound: Duration,
    /// Memory for cached sessions and verified tokens, in bytes.
    pub cache_bytes: u64,
    /// Whether every call gets a span, since traces are exported.
    pub traced: bool,
    /// The most calls per second of one principal to one method; 0 = no limit.
    pub rate_limit: u32,
    /// The most refreshes per minute of one session; 0 = no limit.
    pub refresh_limit: u32,
    /// What to do when the database was restored.
    pub on_restore: OnRestore,
    /// The file that stores the last position of the database; `None` = in memory only.
    pub position_file: Option<PathBuf>,
    /// How long calls in progress may take to end at shutdown.
    pub drain_timeout: Duration,
    pub intervals: Intervals,
    /// The settings of event streams.
    pub watch: WatchSettings,
}

/// How often the jobs run.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Writing last activity and observations.
    pub flush: Duration,
    /// Ending expired sessions.
    pub sweep: Duration,
    /// Probing the database.
    pub probe: Duration,
    /// Creating partitions ahead of time and deleting rows past their retention.
    pub retain: Duration,
    /// Applying changed policies.
    pub apply: Duration,
    /// Evaluating the rules on new activities.
    pub detect: Duration,
    /// Checking the geolocation files for changes.
    pub locations: Duration,
    /// Checking the certificate files for changes.
    pub certificates: Duration,
    /// Warning that the server is not protected.
    pub insecure: Duration,
    /// Adding new activities to the statistics.
    pub roll_up: Duration,
    /// Checking whether keys are due for rotation.
    pub rotate: Duration,
    /// Checking whether the database was restored.
    pub restores: Duration,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals {
            flush: Duration::from_secs(5),
            sweep: Duration::from_secs(10),
            probe: Duration::from_millis(500),
            retain: Duration::from_secs(600),
            apply: Duration::from_secs(1),
            detect: Duration::from_millis(250),
            locations: Duration::from_secs(60),
            certificates: Duration::from_secs(10),
            insecure: Duration::from_secs(60),
            roll_up: Duration::from_millis(500),
            rotate: Duration::from_secs(60),
            restores: Duration::from_secs(1),
        }
    }
}
