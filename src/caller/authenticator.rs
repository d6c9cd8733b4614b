//! Authenticates callers, and says when a caller has lost its permission.

use std::time::Duration;

use tokio::time::Instant;

use crate::cache::table::TableCache;
use crate::caller::directory::{Credentials, Directory};
use crate::clock::Clock;
use crate::error::{Error, Reason, Result};
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;

/// How long a stream goes on while its caller cannot be checked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks, also where the bound is greater.
const LOOK: Duration = Duration::from_secs(1);

/// Which callers are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Anyone who reaches the port. Credentials that are shown are checked all the same, and bind.
    Open,
    /// Who shows credentials.
    Authenticated,
}

/// Judges callers. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    callers: Callers,
    directory: TableCache<Directory>,
    clock: Clock,
}

impl Authenticator {
    /// Admits by `directory`.
    pub fn new(callers: Callers, directory: TableCache<Directory>, clock: Clock) -> Authenticator {
        Authenticator { callers, directory, clock }
    }

    /// The caller, if the cached directory decides.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`].
    pub fn authenticate_cached(&self, credentials: &Credentials) -> Option<Result<Caller>> {
        if credentials.is_empty() {
            return Some(match self.callers {
                Callers::Open => Ok(Caller::anonymous()),
                Callers::Authenticated => Err(Error::UnknownCaller),
            });
        }
        let directory = self.directory.cached()?;
        Some(directory.caller(credentials, self.clock.now()))
    }

    /// The caller, with a look into the database if nothing recent enough is known.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`], [`Error::Unavailable`].
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Caller> {
        if let Some(caller) = self.authenticate_cached(credentials) {
            return caller;
        }
        self.directory.get().await?.caller(credentials, self.clock.now())
    }

    /// Waits until these credentials do not prove `caller` any more, who may do what needs `scope`; says why. Within
    /// the bound after it happened, whatever the feed of changes does. A caller that cannot be checked for a while ends it too.
    pub async fn lost(&self, caller: Caller, credentials: Credentials, scope: Scope) -> Error {
        if credentials.is_empty() {
            return std::future::pending().await;
        }
        let bound = self.directory.bound();
        let mut sent_at = Instant::now();
        loop {
            tokio::time::sleep((bound / 5).min(LOOK)).await;
            // Half the bound is left for the next look and its reading.
            let judged = match self.directory.get_within(bound / 2).await {
                Ok(directory) => self.judge(&directory, &credentials, scope),
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
        let caller = directory.caller(credentials, self.clock.now())?;
        caller.check_scope(scope)?;
        Ok(caller)
    }
}

/// It may still do this, but perhaps not for what it asked.
fn changed() -> Error {
    Error::NotPermitted {
        reason: Reason::CallerNotPermitted,
        message: "the tenants or audiences of the caller were changed; begin again".to_owned(),
        metadata: Vec::new(),
    }
}
