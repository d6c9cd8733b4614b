//! WatchRevocations: the revocations in force, then new ones, for gateways that verify tokens themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::cache::feed::WatchSettings;
use crate::cache::revocation_feed::{RevocationBatch, RevocationFeed};
use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::feed::Horizon;
use crate::model::ids::TenantId;
use crate::model::revocation::{NONE, Revocation};
use crate::store::pool::Database;
use crate::store::revocations::{self, After};

/// Revocations per read and per message.
const PAGE: usize = 1000;
/// With more revocations than this since a cursor, the stream resyncs.
const MAX_SINCE: usize = 20_000;

/// The service for gateways that follow revocations.
pub struct WatchRevocations {
    db: Database,
    revocation_feed: RevocationFeed,
    clock: Clock,
    slots: Arc<Semaphore>,
    /// The longest silence of the revocation feed.
    outage: Duration,
}

/// The stream of one gateway. Dropping it frees its slot.
pub struct RevocationStream {
    db: Database,
    clock: Clock,
    tenant: TenantId,
    batches: broadcast::Receiver<Arc<RevocationBatch>>,
    outage: Duration,
    at: StreamState,
    _slot: OwnedSemaphorePermit,
}

enum StreamState {
    Since(Horizon),
    /// None of the revocations in force is sent yet.
    Nothing,
    /// Some of them are sent; the first read had this horizon, at this time.
    Page(After, Horizon, Time),
    Live,
}

/// One message of the stream.
#[derive(Debug)]
pub struct RevocationMessage {
    pub resync: bool,
    pub revocations: Vec<Revocation>,
    /// Everything committed before this horizon is sent, and its time; `None` = more revocations in force follow.
    pub through: Option<(Horizon, Time)>,
}

impl WatchRevocations {
    /// Streams what `revocation_feed` publishes.
    pub fn new(
        db: Database,
        revocation_feed: RevocationFeed,
        clock: Clock,
        settings: &WatchSettings,
    ) -> WatchRevocations {
        let slots = Arc::new(Semaphore::new(settings.gateways));
        WatchRevocations { db, revocation_feed, clock, slots, outage: settings.outage }
    }

    /// Follows the revocations of the tenant, after a position, or from those in force on.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub fn follow(&self, tenant: TenantId, from: Option<Horizon>) -> Result<RevocationStream> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Error::Overloaded)?;
        Ok(RevocationStream {
            db: self.db.clone(),
            clock: self.clock.clone(),
            tenant,
            // Subscribes before the first read, so that a later commit is received. Some revocations are sent twice.
            batches: self.revocation_feed.subscribe(),
            outage: self.outage,
            at: from.map_or(StreamState::Nothing, StreamState::Since),
            _slot: slot,
        })
    }
}

impl RevocationStream {
    /// The next message. Without new revocations every poll of the feed yields an empty one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next(&mut self) -> Result<RevocationMessage> {
        match std::mem::replace(&mut self.at, StreamState::Nothing) {
            StreamState::Since(from) => self.since(from).await,
            StreamState::Nothing => self.page(None, None).await,
            StreamState::Page(after, to, at) => self.page(Some(after), Some((to, at))).await,
            StreamState::Live => self.live().await,
        }
    }

    async fn since(&mut self, from: Horizon) -> Result<RevocationMessage> {
        let now = self.clock.now();
        let reading = async {
            let mut conn = self.db.acquire().await?;
            revocations::since(&mut conn, &from, MAX_SINCE).await
        };
        let batches = self.db.within(reading).await?;
        if batches.too_many || batches.is_before(&from) {
            return self.page(None, None).await;
        }
        self.at = StreamState::Live;
        let revocations = self.concerning(&batches.revocations);
        Ok(RevocationMessage { resync: false, revocations, through: Some((batches.to, now)) })
    }

    /// A page of the revocations in force. Concurrent ones are on a later page, or come with the feed.
    async fn page(
        &mut self,
        after: Option<After>,
        first: Option<(Horizon, Time)>,
    ) -> Result<RevocationMessage> {
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
                self.at = StreamState::Page(after, to, at);
                None
            }
            None => {
                self.at = StreamState::Live;
                Some((to, at))
            }
        };
        Ok(RevocationMessage { resync, revocations: page.revocations, through })
    }

    async fn live(&mut self) -> Result<RevocationMessage> {
        let received = tokio::time::timeout(self.outage, self.batches.recv()).await;
        let batches = match received {
            Ok(Ok(batches)) => batches,
            // The subscriber was too slow.
            Ok(Err(RecvError::Lagged(_))) => return self.page(None, None).await,
            Ok(Err(RecvError::Closed)) | Err(_) => {
                return Err(Error::Unavailable(Outage::Timeout));
            }
        };
        if batches.resync {
            return self.page(None, None).await;
        }
        self.at = StreamState::Live;
        let revocations = self.concerning(&batches.revocations);
        Ok(RevocationMessage {
            resync: false,
            revocations,
            through: Some((batches.to.clone(), batches.at)),
        })
    }

    /// The revocations that a gateway of this tenant needs; those of keys concern every tenant.
    fn concerning(&self, revocations: &[Revocation]) -> Vec<Revocation> {
        let visible = |revocation: &&Revocation| {
            revocation.below > NONE && (revocation.tenant == self.tenant || revocation.is_of_key())
        };
        revocations.iter().filter(visible).cloned().collect()
    }
}
