//! Follows the revocations: reads what was committed since it looked last, and has it forgotten. The time of the
//! database comes along.

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

/// The most revocations told one by one between two looks, some 10 MB. Of more, everything is forgotten.
const MAX_BATCH: usize = 20_000;
/// The longest time between two looks, also where staleness may be greater.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// Between two notifications of others: what is revoked meanwhile goes with the next.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(2);
/// How long a look that somebody waits for may take.
pub const CATCH_UP: Duration = Duration::from_millis(250);
/// Looks kept for gateways that lag.
const BACKLOG: usize = 4096;

/// The one who follows. Cheap to clone.
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

/// What was heard at one look.
#[derive(Debug)]
pub struct RevocationBatch {
    /// Up to where everything was heard.
    pub to: Horizon,
    /// Everything that was committed before was heard.
    pub at: Time,
    pub revocations: Vec<Revocation>,
    /// There was more: whoever keeps a list must fetch it anew.
    pub resync: bool,
}

impl RevocationFeed {
    /// Has `reader` forget what is revoked in `db`, by this replica before the answer, by others soon, and counts in
    /// `versions` what concerns tables known as a whole. Without a runtime it does nothing yet.
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
        let help = "How long ago the revocations were followed last; -1 before the first time.";
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

    /// What is heard from now on, look by look, also if it was nothing.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<RevocationBatch>> {
        self.subscribers.subscribe()
    }

    /// Follows for ever.
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
                tracing::warn!(%error, "revocations cannot be followed; validation reads the database");
            }
            tokio::time::sleep(RECONNECT.min(self.look)).await;
        }
    }

    /// Tells all replicas whenever this one revoked something, for ever.
    pub async fn notify_replicas(&self) {
        loop {
            self.notified.notified().await;
            if let Err(error) = listener::notify(&self.db).await {
                tracing::debug!(%error, "others will hear of a revocation by themselves");
            }
            tokio::time::sleep(NOTIFY_INTERVAL).await;
        }
    }

    /// Begins anew with each connection: after a crash or a promotion the server may give out transaction ids again
    /// that lie before the position, and what they revoke would never be heard of.
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
                    // What was revoked before is not heard of, also by a gateway that came first.
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
                tracing::info!("revocations are followed again");
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
            // Another cluster, or this one restored: its transactions are others.
            tracing::error!("the database went back in time; what is known by heart is forgotten");
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

    /// Waits until nothing is cached here that was revoked before the call, by whichever replica. False if the
    /// revocations cannot be followed that soon: then it is for the caller to have it forgotten.
    pub async fn catch_up(&self) -> bool {
        tokio::time::timeout(CATCH_UP, self.progress.catch_up()).await.is_ok()
    }

    /// Forgets what a revocation is about.
    pub fn invalidate(&self, revocation: &Revocation) {
        self.reader.invalidate(revocation);
    }

    /// Forgets everything that this replica caches.
    pub fn invalidate_all(&self) {
        self.reader.invalidate_all();
        self.versions.note_all();
    }

    fn publish(&self, to: Horizon, at: Time, revocations: Vec<Revocation>, resync: bool) {
        // Nobody may be listening.
        let _ = self.subscribers.send(Arc::new(RevocationBatch { to, at, revocations, resync }));
    }
}
