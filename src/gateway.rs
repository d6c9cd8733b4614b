//! For gateways in Rust: validates access tokens locally, with the keys and revocations of the service, within the same
//! staleness bound.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use sessiond::gateway::{ApiKey, Gateway, GatewayOptions, Verdict};
//!
//! let channel = tonic::transport::Channel::from_static("http://127.0.0.1:50051").connect().await?;
//! let api_key = Some(ApiKey::new("ssk_..."));
//! let options = GatewayOptions { api_key, ..GatewayOptions::new("sessiond") };
//! let gateway = Gateway::connect(channel, options).await?;
//! match gateway.validate("eyJ...") {
//!     Verdict::Active(claims) => println!("{} may pass", claims.key.user),
//!     Verdict::Ask => println!("call ValidateSession"),
//!     Verdict::Stale => println!("nothing recent enough is known: refuse, or call ValidateSession"),
//!     Verdict::Inactive(reason) => println!("refuse: {reason:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod credentials;
mod follow;
mod keys;
mod revoked;
mod timing;
#[cfg(all(test, feature = "server"))]
mod vectors;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use quick_cache::sync::Cache;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use crate::model::ids::TenantId;
use crate::model::token::{AccessClaims, InactiveReason};
use credentials::GatewayCredentials;
use keys::KeySet;
use revoked::{RevocationSet, Withdrawn};
use timing::Timing;

pub use credentials::ApiKey;

/// The pause between a panic and the next attempt.
const RESTART: Duration = Duration::from_secs(1);

/// The options of a gateway.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// An API key of a principal with the role `gateway`; `None` = authentication is off, or by client certificate.
    pub api_key: Option<ApiKey>,
    /// The `iss` of the service's tokens.
    pub issuer: String,
    /// The audience that a token must have; `None` = any.
    pub audience: Option<String>,
    /// The tenant whose tokens are validated here; empty = `default`. Tokens of others yield [`Verdict::Ask`].
    pub tenant: String,
    /// The staleness bound of the revocations; 1 s unless changed.
    pub bound: Duration,
    /// What to do beyond the bound.
    pub mode: Mode,
    /// The most verified tokens in the cache, about 1 KB each; 100,000 unless changed.
    pub tokens: usize,
    /// The most revocations in memory, about 100 bytes each; a million unless changed. Beyond, every token yields
    /// [`Verdict::Ask`].
    pub revocations: usize,
}

/// What to do when the revocations are older than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// [`Verdict::Stale`].
    Strict,
    /// Goes on with the revocations that it has.
    BestEffort,
}

/// The result of validating a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The token is valid.
    Active(Arc<AccessClaims>),
    /// The token is invalid.
    Inactive(InactiveReason),
    /// The token matches a revocation, is another tenant's, has a key that is not cached, or is not valid yet (a clock
    /// was set back): only ValidateSession can tell.
    Ask,
    /// The revocations are too old; only in [`Mode::Strict`].
    Stale,
}

/// Caches keys and revocations, and validates tokens. Dropping it ends its streams.
pub struct Gateway {
    shared: Arc<Shared>,
    _following: JoinSet<()>,
}

/// The state that the following task shares with validation.
struct Shared {
    options: GatewayOptions,
    /// The tenant of the options.
    tenant: TenantId,
    keys: KeySet,
    revoked: RwLock<RevocationSet>,
    /// The number of changes of `revoked`. A token that matched no revocation is checked again only after a change.
    version: AtomicU64,
    timing: Timing,
    verified: Cache<String, Arc<VerifiedToken>>,
}

/// A token whose signature was checked.
struct VerifiedToken {
    claims: Arc<AccessClaims>,
    kid: String,
    /// The version of `revoked` in which no revocation matched the token, plus one.
    clean: AtomicU64,
}

impl GatewayOptions {
    /// The options of a gateway for tenant `default`.
    pub fn new(issuer: &str) -> GatewayOptions {
        GatewayOptions {
            api_key: None,
            issuer: issuer.to_owned(),
            audience: None,
            tenant: String::new(),
            bound: Duration::from_secs(1),
            mode: Mode::Strict,
            tokens: 100_000,
            revocations: 1_000_000,
        }
    }
}

impl Gateway {
    /// Fetches the keys and the revocations in force, and follows changes in a task, which reconnects after failures.
    ///
    /// `INVALID_ARGUMENT` for invalid options, else the status of the service or of the failed connection.
    /// What the service answers, or that it does not.
    pub async fn connect(channel: Channel, options: GatewayOptions) -> Result<Gateway, Status> {
        let tenant = TenantId::parse(&options.tenant)
            .map_err(|_| Status::invalid_argument("the options name no tenant that can be"))?;
        let credentials = GatewayCredentials::new(options.api_key.as_ref())?;
        let shared = Arc::new(Shared::new(tenant, options));
        let mut follower = follow::Follower::new(channel, credentials, shared.clone());
        follower.begin().await?;
        let mut following = JoinSet::new();
        following.spawn(follow_for_ever(follower));
        Ok(Gateway { shared, _following: following })
    }

    /// Validates a token from the caches. Never blocks.
    pub fn validate(&self, token: &str) -> Verdict {
        self.shared.judge(token, Instant::now())
    }

    /// The greatest possible age of the revocations; `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        let moment = Instant::now();
        self.shared.timing.now(moment).map(|_| self.shared.timing.age(moment))
    }
}

/// Restarts after a panic. The revocations grow stale until it has caught up.
async fn follow_for_ever(mut follower: follow::Follower) {
    loop {
        let run = AssertUnwindSafe(follower.run()).catch_unwind().await;
        if run.is_err() {
            tracing::error!("following the revocations panicked; it begins anew");
        }
        tokio::time::sleep(RESTART).await;
    }
}

impl Shared {
    fn new(tenant: TenantId, options: GatewayOptions) -> Shared {
        Shared {
            keys: KeySet::default(),
            revoked: RwLock::new(RevocationSet::new(options.revocations)),
            version: AtomicU64::new(0),
            timing: Timing::default(),
            verified: Cache::new(options.tokens),
            tenant,
            options,
        }
    }

    /// Validates a token as of `moment`.
    fn judge(&self, token: &str, moment: Instant) -> Verdict {
        let Some(now) = self.timing.now(moment) else { return Verdict::Stale };
        let stale = self.timing.age(moment) > self.options.bound;
        if stale && self.options.mode == Mode::Strict {
            return Verdict::Stale;
        }
        let verified = match self.verify(token) {
            Ok(Some(verified)) => verified,
            Ok(None) => return Verdict::Ask,
            Err(reason) => return Verdict::Inactive(reason),
        };
        if let Err(reason) = verified.claims.check(now, self.options.audience.as_deref()) {
            return Verdict::Inactive(reason);
        }
        // Keys are of all tenants, but the revocations of one.
        let foreign = verified.claims.key.tenant != self.tenant;
        let from_future = verified.claims.is_from_future(now);
        match foreign || from_future || self.is_withdrawn(&verified) {
            true => Verdict::Ask,
            false => Verdict::Active(verified.claims.clone()),
        }
    }

    /// The verified token; `None` if its key is not cached, but the service may have it.
    fn verify(&self, token: &str) -> Result<Option<Arc<VerifiedToken>>, InactiveReason> {
        if let Some(verified) = self.verified.get(token) {
            return Ok(Some(verified));
        }
        let Some((kid, claims)) = self.keys.verify(&self.options.issuer, token)? else {
            return Ok(None);
        };
        let verified =
            Arc::new(VerifiedToken { claims: Arc::new(claims), kid, clean: AtomicU64::new(0) });
        self.verified.insert(token.to_owned(), verified.clone());
        Ok(Some(verified))
    }

    fn is_withdrawn(&self, verified: &VerifiedToken) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if verified.clean.load(Ordering::Acquire) == version + 1 {
            return false;
        }
        let withdrawn = self.read().withdraws(&verified.claims, &verified.kid);
        if withdrawn == Withdrawn::No {
            // The revocations that were checked are at least of this version.
            verified.clean.store(version + 1, Ordering::Release);
        }
        withdrawn == Withdrawn::Yes
    }

    fn read(&self) -> RwLockReadGuard<'_, RevocationSet> {
        self.revoked.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, RevocationSet> {
        self.revoked.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
