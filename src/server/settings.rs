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

/// What a server needs to know.
pub struct Settings {
    /// Port 0 = any free one. Any but a loopback address needs TLS and authenticated callers.
    pub listen: SocketAddr,
    /// `None` = no TLS.
    pub tls: Option<TlsFiles>,
    /// Whether the operator does without TLS and authenticated callers on any address.
    pub dangerously_insecure: bool,
    /// What connections and calls may cost.
    pub edge: EdgeLimits,
    /// Of metrics, health and keys; a loopback address. `None` = no such port.
    pub http_listen: Option<SocketAddr>,
    /// Which callers are accepted.
    pub callers: Callers,
    /// Whether the reflection services are served.
    pub reflection: bool,
    /// As `store/tls.rs` reads it.
    pub database_url: String,
    /// The most connections, 2 or more.
    pub database_connections: u32,
    /// How long the database may take.
    pub database_timeouts: DatabaseTimeouts,
    pub master_key: MasterKey,
    /// `iss` of access tokens.
    pub issuer: String,
    /// For all tenants.
    pub policy: Policy,
    /// The rules that look for what is suspicious.
    pub detection: DetectionSettings,
    /// Tells the place of an address.
    pub locator: Locator,
    /// How long a key signs until a successor is published; zero = until somebody rotates it.
    pub key_rotation: Duration,
    /// Of the first key of access tokens.
    pub key_algorithm: SigningAlgorithm,
    /// How long a key is published before it signs.
    pub key_publish_ahead: Duration,
    /// How long the audit trail is kept: by whole months, so up to a month longer.
    pub activity_retention: Duration,
    /// How old the knowledge may be by which a token is judged; zero = the database is asked each time.
    pub staleness_bound: Duration,
    /// Memory for cached sessions and verified tokens, in bytes.
    pub cache_bytes: u64,
    /// Every call gets a span, since traces are sent.
    pub traced: bool,
    /// How often a principal may call a method a second; 0 = as often as it likes.
    pub rate_limit: u32,
    /// How often a session may be refreshed a minute; 0 = as often as it likes.
    pub refresh_limit: u32,
    /// What to do once the database was restored.
    pub on_restore: OnRestore,
    /// Where to remember how far the database was; `None` = in memory only.
    pub position_file: Option<PathBuf>,
    /// How long calls in progress may take to end at a stop.
    pub drain_timeout: Duration,
    pub intervals: Intervals,
    /// How streams of events are served.
    pub watch: WatchSettings,
}

/// How often the jobs run.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// Writing last activity and observations.
    pub flush: Duration,
    /// Writing down what expired.
    pub sweep: Duration,
    /// Asking the database whether it answers.
    pub probe: Duration,
    /// Making partitions ahead and forgetting request ids.
    pub retain: Duration,
    /// Looking for policies to apply.
    pub apply: Duration,
    /// Looking for activities that the rules have not seen.
    pub detect: Duration,
    /// Looking whether the files of locations changed.
    pub locations: Duration,
    /// Looking whether the files of certificates changed.
    pub certificates: Duration,
    /// Warning that the server is not protected.
    pub insecure: Duration,
    /// Looking for activities that the statistics have not counted.
    pub roll_up: Duration,
    /// Looking whether keys are to be rotated.
    pub rotate: Duration,
    /// Looking whether the database was restored.
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
