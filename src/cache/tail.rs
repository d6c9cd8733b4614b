//! Follows the revocations: reads what was committed since it looked last, and has it forgotten. The time of the
//! database comes along.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, broadcast};

use crate::cache::meters::TailMeters;
use crate::cache::seen::Seen;
use crate::cache::sessions::SessionReader;
use crate::cache::whole::Changes;
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::feed::Horizon;
use crate::model::revocation::Revocation;
use crate::store::listener::{self, Listener};
use crate::store::pool::Database;

/// The most revocations told one by one between two looks, some 10 MB. Of more, everything is forgotten.
const MOST: usize = 20_000;
/// The longest time between two looks, also where staleness may be greater.
const LOOK: Duration = Duration::from_millis(200);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// Between two notifications of others: what is revoked meanwhile goes with the next.
const TELL: Duration = Duration::from_millis(2);
/// How long a look that somebody waits for may take.
pub const CATCH_UP: Duration = Duration::from_millis(250);
/// Looks kept for gateways that lag.
const KEPT: usize = 4096;

/// The one who follows. Cheap to clone.
#[derive(Clone)]
pub struct Tail {
    db: Database,
    reader: SessionReader,
    changes: Changes,
    seen: Seen,
    clock: Clock,
    news: broadcast::Sender<Arc<News>>,
    told: Arc<Notify>,
    look: Duration,
    patience: Duration,
    meters: TailMeters,
}

/// What was heard at one look.
#[derive(Debug)]
pub struct News {
    /// Up to where everything was heard.
    pub to: Horizon,
    /// Everything that was committed before was heard.
    pub at: Time,
    pub revocations: Vec<Revocation>,
    /// There was more: whoever keeps a list must fetch it anew.
    pub resync: bool,
}

impl Tail {
    /// Has `reader` forget what is revoked in `db`, by this replica before the answer, by others soon, and counts in
    /// `changes` what concerns tables known as a whole. Without a runtime it does nothing yet.
    pub fn new(
        db: Database,
        reader: SessionReader,
        changes: Changes,
        seen: Seen,
        clock: Clock,
        metrics: &Metrics,
    ) -> Tail {
        let bound = if reader.bound().is_zero() { LOOK * 5 } else { reader.bound() };
        let told = Arc::new(Notify::new());
        let (forget, wake, own) = (reader.forgetter(), told.clone(), changes.clone());
        db.on_revoked(Box::new(move |revocations| {
            revocations.iter().for_each(&forget);
            revocations.iter().for_each(|revocation| own.note(&revocation.subject));
            wake.notify_one();
        }));
        let (behind, ahead) = (seen.clone(), clock.clone());
        let help = "How long ago the revocations were followed last; -1 before the first time.";
        metrics.sampled("revocation_feed_age_seconds", help, move || {
            behind.through().0.map_or(-1.0, |through| through.elapsed().as_secs_f64())
        });
        let help = "How far the service's clock, the database's, is ahead of this machine's.";
        metrics.sampled("clock_ahead_of_machine_seconds", help, move || {
            ahead.ahead_of_wall().as_seconds_f64()
        });
        let meters = TailMeters::new(metrics);
        let look = LOOK.min(bound / 5);
        let patience = (bound * 2 / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
        Tail {
            db,
            reader,
            changes,
            seen,
            clock,
            news: broadcast::Sender::new(KEPT),
            told,
            look,
            patience,
            meters,
        }
    }

    /// What is heard from now on, look by look, also if it was nothing.
    pub fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
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
    pub async fn tell(&self) {
        loop {
            self.told.notified().await;
            if let Err(error) = listener::tell(&self.db).await {
                tracing::debug!(%error, "others will hear of a revocation by themselves");
            }
            tokio::time::sleep(TELL).await;
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
                    self.forget_all();
                    self.pass_on(now.clone(), asked_at, Vec::new(), true);
                    now
                }
                Some(seen) => self.hear(listener, seen).await?,
            };
            self.meters.looks.inc();
            self.seen.advance(began, to.watermark());
            at = Some(to);
            if std::mem::take(failing) {
                tracing::info!("revocations are followed again");
            }
            tokio::select! {
                told = listener.told() => told?,
                () = self.seen.wanted() => {}
                () = tokio::time::sleep(self.look) => {}
            }
        }
    }

    async fn hear(&self, listener: &mut Listener, seen: Horizon) -> Result<Horizon> {
        let (before, asked_at) = (Instant::now(), self.clock.now());
        let news = listener.since(&seen, MOST).await?;
        self.clock.follow(before, news.at, Instant::now());
        let backwards = news.is_before(&seen);
        if backwards {
            // Another cluster, or this one restored: its transactions are others.
            tracing::error!("the database went back in time; what is known by heart is forgotten");
            self.seen.reset();
        }
        let resync = news.too_many || backwards;
        if resync {
            self.forget_all();
        } else {
            for revocation in &news.revocations {
                self.reader.forget(revocation);
                self.changes.note(&revocation.subject);
            }
        }
        self.meters.heard.inc_by(news.revocations.len() as u64);
        let revocations = if resync { Vec::new() } else { news.revocations };
        self.pass_on(news.to.clone(), asked_at, revocations, resync);
        Ok(news.to)
    }

    /// Waits until nothing is cached here that was revoked before the call, by whichever replica. False if the
    /// revocations cannot be followed that soon: then it is for the caller to have it forgotten.
    pub async fn catch_up(&self) -> bool {
        tokio::time::timeout(CATCH_UP, self.seen.catch_up()).await.is_ok()
    }

    /// Forgets what a revocation is about.
    pub fn forget(&self, revocation: &Revocation) {
        self.reader.forget(revocation);
    }

    /// Forgets everything that this replica caches.
    pub fn forget_all(&self) {
        self.reader.forget_all();
        self.changes.note_all();
    }

    fn pass_on(&self, to: Horizon, at: Time, revocations: Vec<Revocation>, resync: bool) {
        // Nobody may be listening.
        let _ = self.news.send(Arc::new(News { to, at, revocations, resync }));
    }
}
