//! For gateways in Rust: validates access tokens without a call, by the keys and the revocations of the service, within
//! the same staleness bound.
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

/// Between a panic and the next attempt.
const RESTART: Duration = Duration::from_secs(1);

/// How a gateway works.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Of a principal with the role `gateway`; `None` = callers are open, or the channel has a client certificate.
    pub api_key: Option<ApiKey>,
    /// The `iss` of the service's tokens.
    pub issuer: String,
    /// Who a token must be meant for; `None` = anybody.
    pub audience: Option<String>,
    /// Whose tokens are judged here; empty = `default`. Those of others are to be asked about.
    pub tenant: String,
    /// How old the knowledge may be; 1 s unless changed.
    pub bound: Duration,
    /// What to do beyond.
    pub mode: Mode,
    /// The most verified tokens kept, about 1 KB each; 100,000 unless changed.
    pub tokens: usize,
    /// The most revocations kept, about 100 bytes each; a million unless changed. Beyond, every token is to be asked
    /// about.
    pub revocations: usize,
}

/// What to do when what is known is older than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// [`Verdict::Stale`].
    Strict,
    /// Goes on with what is known.
    BestEffort,
}

/// A judgement about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Active(Arc<AccessClaims>),
    /// It opens nothing.
    Inactive(InactiveReason),
    /// A revocation matches it, it is another tenant's, its key is not known here, or it is not valid yet (a clock was
    /// set back): only ValidateSession can tell.
    Ask,
    /// What is known is too old; only in [`Mode::Strict`].
    Stale,
}

/// Keeps keys and revocations, and validates tokens. Dropping it ends its connection's streams.
pub struct Gateway {
    shared: Arc<Shared>,
    _following: JoinSet<()>,
}

/// What the task that follows shares with those who validate.
struct Shared {
    options: GatewayOptions,
    /// That of the options.
    tenant: TenantId,
    keys: KeySet,
    revoked: RwLock<RevocationSet>,
    /// Counts changes of `revoked`: a token that nothing matched need not be looked up before the next.
    version: AtomicU64,
    timing: Timing,
    verified: Cache<String, Arc<VerifiedToken>>,
}

/// A token whose signature was checked.
struct VerifiedToken {
    claims: Arc<AccessClaims>,
    kid: String,
    /// The version of the revocations of which none matched it, plus one.
    clean: AtomicU64,
}

impl GatewayOptions {
    /// As a gateway in front of tenant `default` needs them.
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
    /// Fetches the keys and what is in force, and goes on following in a task of its own, over whatever the connection
    /// suffers.
    ///
    /// # Errors
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

    /// Judges a token by what is known here. Never waits.
    pub fn validate(&self, token: &str) -> Verdict {
        self.shared.judge(token, Instant::now())
    }

    /// How old what is known is, at most; `None` before anything is known.
    pub fn age(&self) -> Option<Duration> {
        let moment = Instant::now();
        self.shared.timing.now(moment).map(|_| self.shared.timing.age(moment))
    }
}

/// After a panic it begins anew: until it has, what is known grows stale.
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

    /// Judges a token as of `moment`.
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
        // Keys are those of all tenants, the revocations are of one.
        let foreign = verified.claims.key.tenant != self.tenant;
        let from_future = verified.claims.is_from_future(now);
        match foreign || from_future || self.is_withdrawn(&verified) {
            true => Verdict::Ask,
            false => Verdict::Active(verified.claims.clone()),
        }
    }

    /// The proven token; `None` if its key is not known, but may be to the service.
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
            // What was looked at is at least as new.
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
