//! WatchRevocations: what is in force, then what comes, for gateways that verify tokens themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::cache::feed::WatchSettings;
use crate::cache::tail::{News, Tail};
use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::feed::Horizon;
use crate::model::ids::TenantId;
use crate::model::revocation::{NONE, Revocation};
use crate::store::pool::Database;
use crate::store::revocations::{self, After};

/// Revocations per read and per message.
const PAGE: usize = 1000;
/// More since a cursor than this, and all is told anew.
const MOST_SINCE: usize = 20_000;

/// Where gateways come.
pub struct WatchRevocations {
    db: Database,
    tail: Tail,
    clock: Clock,
    places: Arc<Semaphore>,
    /// For how long nothing may be heard.
    outage: Duration,
}

/// One gateway. Dropping it frees its place.
pub struct Following {
    db: Database,
    clock: Clock,
    tenant: TenantId,
    news: broadcast::Receiver<Arc<News>>,
    outage: Duration,
    at: At,
    _place: OwnedSemaphorePermit,
}

enum At {
    Since(Horizon),
    /// All that is in force is still to be told.
    Nothing,
    /// Some of it was; the first read saw this much, at this time.
    Page(After, Horizon, Time),
    Live,
}

/// What is told at once.
#[derive(Debug)]
pub struct Told {
    pub resync: bool,
    pub revocations: Vec<Revocation>,
    /// All that was committed before, and its time; `None` = more of what is in force follows.
    pub through: Option<(Horizon, Time)>,
}

impl WatchRevocations {
    /// Tells what `tail` hears.
    pub fn new(
        db: Database,
        tail: Tail,
        clock: Clock,
        settings: &WatchSettings,
    ) -> WatchRevocations {
        let places = Arc::new(Semaphore::new(settings.gateways));
        WatchRevocations { db, tail, clock, places, outage: settings.outage }
    }

    /// Follows what is revoked in the tenant, after a position or from what is in force on.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub fn follow(&self, tenant: TenantId, from: Option<Horizon>) -> Result<Following> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Error::Overloaded)?;
        Ok(Following {
            db: self.db.clone(),
            clock: self.clock.clone(),
            tenant,
            // Before anything is read: whatever commits after what is read shows is heard of. Some is told twice.
            news: self.tail.news(),
            outage: self.outage,
            at: from.map_or(At::Nothing, At::Since),
            _place: place,
        })
    }
}

impl Following {
    /// What is to be told next. Where nothing was revoked, it says at every look that there was nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<Told> {
        match std::mem::replace(&mut self.at, At::Nothing) {
            At::Since(from) => self.since(from).await,
            At::Nothing => self.page(None, None).await,
            At::Page(after, to, at) => self.page(Some(after), Some((to, at))).await,
            At::Live => self.live().await,
        }
    }

    async fn since(&mut self, from: Horizon) -> Result<Told> {
        let now = self.clock.now();
        let reading = async {
            let mut conn = self.db.acquire().await?;
            revocations::since(&mut conn, &from, MOST_SINCE).await
        };
        let news = self.db.within(reading).await?;
        if news.too_many || news.is_before(&from) {
            return self.page(None, None).await;
        }
        self.at = At::Live;
        let revocations = self.concerning(&news.revocations);
        Ok(Told { resync: false, revocations, through: Some((news.to, now)) })
    }

    /// A page of what is in force. What is revoked meanwhile is on a later page, or heard of.
    async fn page(&mut self, after: Option<After>, first: Option<(Horizon, Time)>) -> Result<Told> {
        let now = self.clock.now();
        let resync = after.is_none();
        let reading = async {
            let mut conn = self.db.acquire().await?;
            revocations::in_force(&mut conn, &self.tenant, now, after, PAGE).await
        };
        let (page, next) = self.db.within(reading).await?;
        let (to, at) = first.unwrap_or((page.to, now));
        let through = match next {
            Some(after) => {
                self.at = At::Page(after, to, at);
                None
            }
            None => {
                self.at = At::Live;
                Some((to, at))
            }
        };
        Ok(Told { resync, revocations: page.revocations, through })
    }

    async fn live(&mut self) -> Result<Told> {
        let heard = tokio::time::timeout(self.outage, self.news.recv()).await;
        let news = match heard {
            Ok(Ok(news)) => news,
            // It was too slow.
            Ok(Err(RecvError::Lagged(_))) => return self.page(None, None).await,
            Ok(Err(RecvError::Closed)) | Err(_) => {
                return Err(Error::Unavailable(Outage::Timeout));
            }
        };
        if news.resync {
            return self.page(None, None).await;
        }
        self.at = At::Live;
        let revocations = self.concerning(&news.revocations);
        Ok(Told { resync: false, revocations, through: Some((news.to.clone(), news.at)) })
    }

    /// What a gateway of this tenant has to know; keys are everybody's.
    fn concerning(&self, revocations: &[Revocation]) -> Vec<Revocation> {
        let told = |revocation: &&Revocation| {
            revocation.below > NONE && (revocation.tenant == self.tenant || revocation.is_of_key())
        };
        revocations.iter().filter(told).cloned().collect()
    }
}
