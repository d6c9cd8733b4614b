//! Authenticates callers, and reports when a caller has lost its permission.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::table::TableCache;
use crate::caller::account::Account;
use crate::caller::directory::{Credentials, Directory, KnownCaller};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;

/// How long a stream continues while its caller cannot be checked.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest interval between two checks of a stream's caller.
const LOOK: Duration = Duration::from_secs(1);

/// Which callers are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Every client that reaches the port. Credentials are optional, but are checked and binding if sent.
    Open,
    /// Only callers with credentials.
    Authenticated,
}

/// Authenticates callers. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    callers: Callers,
    directory: TableCache<Directory>,
    clock: Clock,
    anonymous: Arc<KnownCaller>,
}

impl Authenticator {
    /// Authenticates against `directory`.
    pub fn new(callers: Callers, directory: TableCache<Directory>, clock: Clock) -> Authenticator {
        let account = Arc::new(Account::new(0));
        let anonymous = Arc::new(KnownCaller { caller: Caller::anonymous(), account });
        Authenticator { callers, directory, clock, anonymous }
    }

    /// The caller, if it can be authenticated from the cached directory.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`].
    pub fn authenticate_cached(
        &self,
        credentials: &Credentials,
    ) -> Option<Result<Arc<KnownCaller>>> {
        if credentials.is_empty() {
            return Some(match self.callers {
                Callers::Open => Ok(self.anonymous.clone()),
                Callers::Authenticated => Err(Error::UnknownCaller),
            });
        }
        let directory = self.directory.cached()?;
        Some(directory.caller(credentials, self.clock.now()))
    }

    /// The caller; reads the directory from the database if the cached one is too old.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`], [`Error::Unavailable`].
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Arc<KnownCaller>> {
        if let Some(caller) = self.authenticate_cached(credentials) {
            return caller;
        }
        self.directory.get().await?.caller(credentials, self.clock.now())
    }

    /// Waits until the credentials no longer prove `caller` or its permission for `scope`, and returns the reason. Does
    /// so within the staleness bound, even if the feed stalls, and at once if the certificate of the connection expires or
    /// is not trusted any more. Also returns if the caller cannot be checked for 5 s.
    pub async fn lost(&self, caller: Caller, credentials: Credentials, scope: Scope) -> Error {
        if credentials.is_empty() {
            return std::future::pending().await;
        }
        tokio::select! {
            () = credentials.connection.distrusted.cancelled() => Error::UnknownCaller,
            error = self.lost_in_directory(caller, &credentials, scope) => error,
        }
    }

    async fn lost_in_directory(
        &self,
        caller: Caller,
        credentials: &Credentials,
        scope: Scope,
    ) -> Error {
        let bound = self.directory.bound();
        let mut sent_at = Instant::now();
        loop {
            tokio::time::sleep((bound / 5).min(LOOK)).await;
            // Half of the bound is left for the sleep and the read.
            let judged = match self.directory.get_within(bound / 2).await {
                Ok(directory) => self.judge(&directory, credentials, scope),
                Err(error) => Err(error),
            };
            match judged {
                Ok(now) if now.tenants == caller.tenants && now.audiences == caller.audiences => {
                    sent_at = Instant::now();
                }
                Ok(_) => return changed(),
                Err(error @ (Error::UnknownCaller | Error::NotPermitted { .. })) => return error,
                Err(error) if sent_at.elapsed() >= PATIENCE => return error,
                Err(_) => {}
            }
        }
    }

    fn judge(
        &self,
        directory: &Directory,
        credentials: &Credentials,
        scope: Scope,
    ) -> Result<Caller> {
        let known = directory.caller(credentials, self.clock.now())?;
        known.caller.check_scope(scope)?;
        Ok(known.caller.clone())
    }
}

/// The caller still has the scope, but the tenants or audiences of its request may no longer be permitted.
fn changed() -> Error {
    Error::NotPermitted {
        reason: Reason::CallerNotPermitted,
        message: "the tenants or audiences of the caller were changed; begin again".to_owned(),
        metadata: Vec::new(),
    }
}
