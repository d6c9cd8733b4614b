//! Flags and environment: every setting with its rule. `sessiond --help` is the reference.

pub mod access;
pub mod edge;
pub mod file;
mod flags;
mod parse;
pub mod restore;
pub mod shares;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::model::policy::ranges::{self, Range};
use crate::model::policy::{Limit, Policy, SessionLimits};
use access::Access;
use edge::EdgeLimits;
use parse::{acr_levels, http_listen, issuer, listen};
use restore::Restore;
use tls::Tls;

pub use flags::{AcrLevels, AlgorithmFlag, HttpListen, LogFormat, OnLimitFlag};
pub use parse::within;

const RETENTION: Range = Range::new("31d to 3650d", 31 * 86_400, 3650 * 86_400, false);
const KEY_ROTATION: Range = Range::new("0s, or 1d to 3650d", 86_400, 3650 * 86_400, true);
// At least the `max-age` of the key set (`http`) plus the largest staleness bound.
const KEY_PUBLISH_AHEAD: Range = Range::new("6m to 30d", 300 + 60, 30 * 86_400, false);
const STALENESS: Range = Range::new("0s, or 1s to 60s", 1, 60, true);
const DRAIN: Range = Range::new("0s to 10m", 0, 600, false);

/// All settings. Durations are written like `90s`, `30m`, `12h`, `30d`.
#[derive(Args, Clone)]
pub struct Config {
    /// Address of the gRPC server; any but a loopback address needs TLS and authenticated callers
    #[arg(long, env = "SESSIOND_LISTEN", global = true, default_value = "127.0.0.1:50051")]
    #[arg(value_parser = listen, value_name = "ADDRESS")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub tls: Tls,

    /// Address of metrics, health and keys over HTTP; a loopback address, or off
    #[arg(long, env = "SESSIOND_HTTP_LISTEN", global = true, default_value = "127.0.0.1:9464")]
    #[arg(value_parser = http_listen, value_name = "ADDRESS")]
    pub http_listen: HttpListen,

    #[command(flatten)]
    pub access: Access,

    /// Postgres URL; without it a private Postgres is set up and used. A remote host is verified
    /// in full (sslmode=verify-full) unless the URL says otherwise
    #[arg(long, env = "DATABASE_URL", global = true, hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// File that holds the Postgres URL
    #[arg(long, env = "DATABASE_URL_FILE", global = true, conflicts_with = "database_url")]
    #[arg(value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,

    /// Size of the Postgres connection pool, 2 to 1000; three more connections follow the revocations, read the
    /// keys and probe
    #[arg(long, env = "SESSIOND_DATABASE_CONNECTIONS", global = true, default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1000), value_name = "COUNT")]
    pub database_connections: u32,

    /// Directory of the private Postgres and of a generated master key [default: /var/lib/sessiond for root, else
    /// sessiond in the XDG data directory]
    #[arg(long, env = "SESSIOND_DATA_DIR", global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Directory of the programs of the private Postgres, 14 or newer [default: searched for]
    #[arg(long, env = "SESSIOND_PG_BIN", global = true, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,

    /// Key that encrypts the signing keys in the database: 32 bytes in base64 (openssl rand -base64 32), the same
    /// for all replicas. Without it one is generated in the data directory
    #[arg(long, env = "SESSIOND_MASTER_KEY", global = true, hide_env_values = true)]
    #[arg(value_name = "BASE64")]
    pub master_key: Option<String>,

    /// File that holds the master key
    #[arg(long, env = "SESSIOND_MASTER_KEY_FILE", global = true, conflicts_with = "master_key")]
    #[arg(value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,

    /// Name of this issuer: `iss` of access tokens, and their `aud` where a session names none;
    /// 1 to 256 visible ASCII characters except " and \
    #[arg(long, env = "SESSIOND_ISSUER", global = true, default_value = "sessiond")]
    #[arg(value_parser = issuer, value_name = "NAME")]
    pub issuer: String,

    /// Time without activity after which a session expires, 1s to 365d; 0s = never
    #[arg(long, env = "SESSIOND_IDLE_TIMEOUT", global = true, default_value = "1h")]
    #[arg(value_parser = within(&ranges::IDLE_TIMEOUT), value_name = "DURATION")]
    pub idle_timeout: Duration,

    /// Time after its creation when a session expires despite activity, 1s to 365d
    #[arg(long, env = "SESSIOND_ABSOLUTE_TIMEOUT", global = true, default_value = "24h")]
    #[arg(value_parser = within(&ranges::ABSOLUTE_TIMEOUT), value_name = "DURATION")]
    pub absolute_timeout: Duration,

    /// Lifetime of an access token, 1s to 24h, at most the idle timeout [default: 5m, or the idle timeout]
    #[arg(long, env = "SESSIOND_ACCESS_TOKEN_TTL", global = true)]
    #[arg(value_parser = within(&ranges::ACCESS_TOKEN_TTL), value_name = "DURATION")]
    pub access_token_ttl: Option<Duration>,

    /// How long a used refresh token is still exchanged for the same successor, 0s to 5m
    #[arg(long, env = "SESSIOND_REFRESH_GRACE", global = true, default_value = "10s")]
    #[arg(value_parser = within(&ranges::REFRESH_GRACE), value_name = "DURATION")]
    pub refresh_grace: Duration,

    /// The same while the successor has not been used, 0s to 24h
    #[arg(long, env = "SESSIOND_LOST_RESPONSE_WINDOW", global = true, default_value = "1h")]
    #[arg(value_parser = within(&ranges::LOST_RESPONSE_WINDOW), value_name = "DURATION")]
    pub lost_response_window: Duration,

    /// Live sessions that a user may have, up to 10000; 0 = unlimited
    #[arg(long, env = "SESSIOND_MAX_SESSIONS_PER_USER", global = true, default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(ranges::MAX_SESSIONS)), value_name = "COUNT")]
    pub max_sessions_per_user: u32,

    /// What a create does when the user has that many live sessions
    #[arg(long, env = "SESSIOND_ON_LIMIT", global = true, default_value = "reject", value_enum)]
    pub on_limit: OnLimitFlag,

    /// Ranked authentication levels (`acr`), lowest first, separated by commas: 1 to 16 different values of 1 to
    /// 128 visible ASCII characters except " and \
    #[arg(long, env = "SESSIOND_ACR_LEVELS", global = true, default_value = "aal1,aal2,aal3")]
    #[arg(value_parser = acr_levels, value_name = "LEVELS")]
    pub acr_levels: AcrLevels,

    /// GeoIP database in MaxMind's format (City, Country or Enterprise) for the geolocation of IP addresses, where
    /// the caller states none. Reloaded when the file changes [default: no geolocation]
    #[arg(long, env = "SESSIOND_GEOIP_DATABASE", global = true, value_name = "FILE")]
    pub geoip_database: Option<PathBuf>,

    /// The same (ASN or ISP) for the autonomous systems of IP addresses [default: no autonomous systems]
    #[arg(long, env = "SESSIOND_GEOIP_ASN_DATABASE", global = true, value_name = "FILE")]
    pub geoip_asn_database: Option<PathBuf>,

    /// How long keys sign until successors are published, 1d to 3650d; 0s = until `sessiond keys rotate`
    #[arg(long, env = "SESSIOND_KEY_ROTATION", global = true, default_value = "90d")]
    #[arg(value_parser = within(&KEY_ROTATION), value_name = "DURATION")]
    pub key_rotation: Duration,

    /// Algorithm of the first key for access tokens; a successor has the algorithm of its predecessor
    #[arg(
        long,
        env = "SESSIOND_KEY_ALGORITHM",
        global = true,
        default_value = "eddsa",
        value_enum
    )]
    pub key_algorithm: AlgorithmFlag,

    /// How long a key is published before it signs, 6m to 30d, so that verifiers that cache the key set have it
    #[arg(long, env = "SESSIOND_KEY_PUBLISH_AHEAD", global = true, default_value = "10m")]
    #[arg(value_parser = within(&KEY_PUBLISH_AHEAD), value_name = "DURATION")]
    pub key_publish_ahead: Duration,

    /// How long the audit trail is kept, by whole months, 31d to 3650d
    #[arg(long, env = "SESSIOND_ACTIVITY_RETENTION", global = true, default_value = "400d")]
    #[arg(value_parser = within(&RETENTION), value_name = "DURATION")]
    pub activity_retention: Duration,

    /// Time within which all replicas refuse a session that one replica ended, 1s to 60s; 0s = validation always
    /// reads the database
    #[arg(long, env = "SESSIOND_STALENESS_BOUND", global = true, default_value = "1s")]
    #[arg(value_parser = within(&STALENESS), value_name = "DURATION")]
    pub staleness_bound: Duration,

    #[command(flatten)]
    pub restore: Restore,

    /// Memory for cached sessions and tokens, in MiB, 8 to 1048576
    #[arg(long, env = "SESSIOND_CACHE_MEMORY", global = true, default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(8..=1_048_576), value_name = "MIB")]
    pub cache_memory: u32,

    /// How long calls in progress may take to end when the server stops, 0s to 10m
    #[arg(long, env = "SESSIOND_DRAIN_TIMEOUT", global = true, default_value = "10s")]
    #[arg(value_parser = within(&DRAIN), value_name = "DURATION")]
    pub drain_timeout: Duration,

    /// Where to send traces: the OTLP endpoint of a collector over gRPC, such as http://127.0.0.1:4317 [default: nowhere]
    #[cfg(feature = "otlp")]
    #[arg(long, env = "SESSIOND_OTLP_ENDPOINT", global = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Sampling ratio of traces that begin in the server, 0 to 1; a trace that a caller began follows the caller's
    /// decision
    #[cfg(feature = "otlp")]
    #[arg(long, env = "SESSIOND_OTLP_RATIO", global = true, default_value_t = 1.0)]
    #[arg(value_parser = parse::ratio, value_name = "RATIO")]
    pub otlp_ratio: f64,
    #[command(flatten)]
    pub edge: EdgeLimits,

    /// Log filter, such as `info,sessiond=debug`
    #[arg(long, env = "SESSIOND_LOG", global = true, default_value = "info")]
    #[arg(value_name = "FILTER")]
    pub log: String,

    /// Log format; auto = text on a terminal, JSON otherwise
    #[arg(long, env = "SESSIOND_LOG_FORMAT", global = true, default_value = "auto", value_enum)]
    pub log_format: LogFormat,
}

/// The default lifetime of an access token.
const ACCESS_TOKEN_TTL: Duration = Duration::from_secs(300);

impl Config {
    /// The built-in policy.
    ///
    /// # Errors
    /// If two flags contradict each other; the text names them.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        let chrono = |duration| chrono::Duration::from_std(duration).context("a short duration");
        if self.lost_response_window < self.refresh_grace {
            anyhow::bail!("--lost-response-window must not be shorter than --refresh-grace");
        }
        if self.idle_timeout > self.absolute_timeout {
            anyhow::bail!("--idle-timeout must not be longer than --absolute-timeout");
        }
        let idle = Some(self.idle_timeout).filter(|idle| !idle.is_zero());
        if self.access_token_ttl.zip(idle).is_some_and(|(ttl, idle)| ttl > idle) {
            anyhow::bail!("--access-token-ttl must not be longer than --idle-timeout");
        }
        let ttl = self.access_token_ttl.unwrap_or(ACCESS_TOKEN_TTL);
        let ttl = idle.map_or(ttl, |idle| ttl.min(idle));
        Ok(Policy {
            idle_timeout: idle.map(chrono).transpose()?,
            absolute_timeout: chrono(self.absolute_timeout)?,
            access_token_ttl: chrono(ttl)?,
            refresh_grace: chrono(self.refresh_grace)?,
            lost_response_window: chrono(self.lost_response_window)?,
            limits: SessionLimits {
                user: Limit { max: self.max_sessions_per_user, on_limit: self.on_limit.into() },
                ..SessionLimits::default()
            },
            acr_levels: self.acr_levels.0.clone(),
        })
    }

    /// True if traces are sent.
    pub fn is_traced(&self) -> bool {
        #[cfg(feature = "otlp")]
        return self.otlp_endpoint.is_some();
        #[cfg(not(feature = "otlp"))]
        false
    }

    /// The Postgres URL, from its flag or its file.
    ///
    /// # Errors
    /// If the file cannot be read or holds no value.
    pub fn database_url(&self) -> anyhow::Result<Option<String>> {
        value_or_file(self.database_url.as_ref(), self.database_url_file.as_ref())
            .context("--database-url-file")
    }

    /// The master key, from its flag or its file.
    ///
    /// # Errors
    /// If the file cannot be read or holds no value.
    pub fn master_key(&self) -> anyhow::Result<Option<String>> {
        value_or_file(self.master_key.as_ref(), self.master_key_file.as_ref())
            .context("--master-key-file")
    }
}

fn value_or_file(value: Option<&String>, file: Option<&PathBuf>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(value.cloned()) };
    file::value(file).map(Some)
}
