//! The revocation feed: polls for revocations committed since the last poll, and invalidates what they concern. Each
//! poll also reads the time of the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast};

use crate::cache::meters::RevocationFeedMeters;
use crate::cache::progress::RevocationProgress;
use crate::cache::sessions::SessionReader;
use crate::cache::table::TableVersions;
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::feed::Horizon;
use crate::model::revocation::Revocation;
use crate::store::listener::{self, Listener};
use crate::store::pool::Database;

/// The most revocations in one poll, some 10 MB. If there are more, everything is invalidated.
const MAX_BATCH: usize = 20_000;
/// The longest time between two polls, also where the staleness bound is greater.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// The time between two notifications of other replicas. The next one covers what is revoked meanwhile.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(2);
/// How long a request waits for a poll.
pub const CATCH_UP: Duration = Duration::from_millis(250);
/// Batches kept for gateways that lag.
const BACKLOG: usize = 4096;

/// Reads the revocation feed. Cheap to clone.
#[derive(Clone)]
pub struct RevocationFeed {
    db: Database,
    reader: SessionReader,
    versions: TableVersions,
    progress: RevocationProgress,
    clock: Clock,
    subscribers: broadcast::Sender<Arc<RevocationBatch>>,
    notified: Arc<Notify>,
    look: Duration,
    patience: Duration,
    meters: RevocationFeedMeters,
}

/// What one poll found.
#[derive(Debug)]
pub struct RevocationBatch {
    /// The position after the poll.
    pub to: Horizon,
    /// Everything that was committed before this moment was read.
    pub at: Time,
    pub revocations: Vec<Revocation>,
    /// There was more: a subscriber that keeps a list must fetch it again.
    pub resync: bool,
}

impl RevocationFeed {
    /// Invalidates in `reader` what is revoked in `db`: by this replica before it answers, by others soon after. Counts
    /// in `versions` what concerns cached tables. Needs no runtime.
    pub fn new(
        db: Database,
        reader: SessionReader,
        versions: TableVersions,
        progress: RevocationProgress,
        clock: Clock,
        metrics: &Metrics,
    ) -> RevocationFeed {
        let bound = if reader.bound().is_zero() { POLL_INTERVAL * 5 } else { reader.bound() };
        let notified = Arc::new(Notify::new());
        let (invalidate, wake, own) = (reader.invalidator(), notified.clone(), versions.clone());
        db.on_revoked(Box::new(move |revocations| {
            revocations.iter().for_each(&invalidate);
            revocations.iter().for_each(|revocation| own.note(&revocation.subject));
            wake.notify_one();
        }));
        let (behind, ahead) = (progress.clone(), clock.clone());
        let help = "How long ago the revocation feed was read last; -1 before the first time.";
        metrics.sampled("revocation_feed_age_seconds", help, move || {
            behind.through().0.map_or(-1.0, |through| through.elapsed().as_secs_f64())
        });
        let help = "How far the service's clock, the database's, is ahead of this machine's.";
        metrics.sampled("clock_ahead_of_machine_seconds", help, move || {
            ahead.ahead_of_wall().as_seconds_f64()
        });
        let meters = RevocationFeedMeters::new(metrics);
        let look = POLL_INTERVAL.min(bound / 5);
        let patience = (bound * 2 / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
        RevocationFeed {
            db,
            reader,
            versions,
            progress,
            clock,
            subscribers: broadcast::Sender::new(BACKLOG),
            notified,
            look,
            patience,
            meters,
        }
    }

    /// The batches from now on, one for each poll, empty ones included.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<RevocationBatch>> {
        self.subscribers.subscribe()
    }

    /// Polls for ever.
    pub async fn follow(&self) {
        let mut failing = false;
        loop {
            let error = match Listener::connect(&self.db, self.patience).await {
                Ok(mut listener) => match self.look(&mut listener, &mut failing).await {
                    Err(error) => error,
                    Ok(never) => match never {},
                },
                Err(error) => error,
            };
            self.meters.lost.inc();
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!(%error, "the revocation feed cannot be read; validation reads the database");
            }
            tokio::time::sleep(RECONNECT.min(self.look)).await;
        }
    }

    /// Notifies all replicas whenever this one revoked something, for ever.
    pub async fn notify_replicas(&self) {
        loop {
            self.notified.notified().await;
            if let Err(error) = listener::notify(&self.db).await {
                tracing::debug!(%error, "other replicas were not notified of a revocation; their next poll finds it");
            }
            tokio::time::sleep(NOTIFY_INTERVAL).await;
        }
    }

    /// Begins anew with each connection: after a crash or a promotion the server may assign transaction ids again that
    /// lie before the position, and the feed would never report what they revoke.
    async fn look(
        &self,
        listener: &mut Listener,
        failing: &mut bool,
    ) -> Result<std::convert::Infallible> {
        let mut at: Option<Horizon> = None;
        loop {
            let began = Instant::now();
            let to = match at {
                None => {
                    let asked_at = self.clock.now();
                    let now = listener.now().await?;
                    // The feed does not report earlier revocations, neither here nor to a gateway that subscribed
                    // before.
                    self.invalidate_all();
                    self.publish(now.clone(), asked_at, Vec::new(), true);
                    now
                }
                Some(progress) => self.poll(listener, progress).await?,
            };
            self.meters.polls.inc();
            self.progress.advance(began, to.watermark());
            at = Some(to);
            if std::mem::take(failing) {
                tracing::info!("the revocation feed is read again");
            }
            tokio::select! {
                notified = listener.notified() => notified?,
                () = self.progress.wanted() => {}
                () = tokio::time::sleep(self.look) => {}
            }
        }
    }

    async fn poll(&self, listener: &mut Listener, progress: Horizon) -> Result<Horizon> {
        let (before, asked_at) = (Instant::now(), self.clock.now());
        let batch = listener.since(&progress, MAX_BATCH).await?;
        self.clock.follow(before, batch.at, Instant::now());
        let backwards = batch.is_before(&progress);
        if backwards {
            // Another cluster, or this one restored: transaction ids do not compare.
            tracing::error!("the database went back in time; all that is cached is invalidated");
            self.progress.reset();
        }
        let resync = batch.too_many || backwards;
        if resync {
            self.invalidate_all();
        } else {
            for revocation in &batch.revocations {
                self.reader.invalidate(revocation);
                self.versions.note(&revocation.subject);
            }
        }
        self.meters.received.inc_by(batch.revocations.len() as u64);
        let revocations = if resync { Vec::new() } else { batch.revocations };
        self.publish(batch.to.clone(), asked_at, revocations, resync);
        Ok(batch.to)
    }

    /// Waits until nothing is cached here that any replica revoked before the call. False if the feed cannot be read
    /// within [`CATCH_UP`]: then the caller has to invalidate.
    pub async fn catch_up(&self) -> bool {
        tokio::time::timeout(CATCH_UP, self.progress.catch_up()).await.is_ok()
    }

    /// Invalidates what a revocation concerns.
    pub fn invalidate(&self, revocation: &Revocation) {
        self.reader.invalidate(revocation);
    }

    /// Invalidates everything that this replica caches.
    pub fn invalidate_all(&self) {
        self.reader.invalidate_all();
        self.versions.note_all();
    }

    fn publish(&self, to: Horizon, at: Time, revocations: Vec<Revocation>, resync: bool) {
        // There may be no subscriber.
        let _ = self.subscribers.send(Arc::new(RevocationBatch { to, at, revocations, resync }));
    }
}
