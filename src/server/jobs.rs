//! The background jobs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::settings::Intervals;
use crate::cache::revocation_feed::RevocationFeed;
use crate::cache::sessions::SessionReader;
use crate::edge::tls::Certificates;
use crate::jobs;
use crate::session::apply_policy::ApplyPolicy;
use crate::session::detect::Detect;
use crate::session::expire::Expire;
use crate::session::location::Locator;
use crate::session::observations::Observations;
use crate::session::restore::RestoreWatch;
use crate::session::retain::Retain;
use crate::session::roll_up::RollUp;
use crate::session::touch::Touches;
use crate::supervise::TaskNeed::{self, Serving, Upkeep};
use crate::supervise::Tasks;
use crate::token::key_work::KeyWork;

/// The parts that the jobs need.
pub(super) struct Jobs {
    pub expire: Expire,
    pub retain: Retain,
    pub apply: ApplyPolicy,
    pub touches: Touches,
    pub observations: Observations,
    pub reader: SessionReader,
    pub revocation_feed: RevocationFeed,
    pub locator: Locator,
    /// `None` = no TLS.
    pub certificates: Option<Arc<Certificates>>,
    pub insecure: bool,
    pub detect: Detect,
    pub roll_up: RollUp,
    pub restores: RestoreWatch,
    pub key_work: KeyWork,
    pub key_rotation: Duration,
    pub intervals: Intervals,
}

/// Jobs that are starting.
struct Starting<'a> {
    set: JoinSet<()>,
    tasks: &'a Tasks,
    stop: &'a CancellationToken,
}

impl Jobs {
    /// Starts all jobs as supervised tasks; each ends soon after `stop`. `reload` makes the jobs that read files check
    /// them at once.
    pub fn start(
        self,
        up: watch::Sender<bool>,
        reload: watch::Receiver<()>,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) -> JoinSet<()> {
        let Intervals {
            flush,
            sweep,
            probe,
            retain,
            apply,
            detect,
            locations,
            certificates,
            insecure,
            roll_up,
            rotate,
            restores,
        } = self.intervals;
        let mut jobs = Starting { set: JoinSet::new(), tasks, stop };
        let expire = Arc::new(self.expire);
        jobs.add(("expire", Upkeep), expire, move |job, stop| jobs::expire::run(job, sweep, stop));
        jobs.add(("flush_touches", Serving), self.touches, move |job, stop| {
            jobs::flush_touches::run(job, flush, stop)
        });
        jobs.add(("flush_observations", Serving), self.observations, move |job, stop| {
            jobs::flush_observations::run(job, flush, stop)
        });
        let following = ("follow_revocations", Serving);
        jobs.add(following, self.revocation_feed.clone(), jobs::follow_revocations::run);
        jobs.add(("notify_replicas", Serving), self.revocation_feed, jobs::notify_replicas::run);
        jobs.add(("probe", Serving), (self.reader, up), move |(reader, up), stop| {
            jobs::probe::run(reader, up, probe, stop)
        });
        let keeping = Arc::new(self.retain);
        jobs.add(("retain", Upkeep), keeping, move |job, stop| {
            jobs::retain::run(job, retain, stop)
        });
        jobs.add(("apply_policies", Upkeep), self.apply, move |job, stop| {
            jobs::apply_policies::run(job, apply, stop)
        });
        let locator = (self.locator, reload.clone());
        jobs.add(("reload_locations", Upkeep), locator, move |(job, asked), stop| {
            jobs::reload_locations::run(job, locations, asked, stop)
        });
        if let Some(files) = self.certificates {
            let files = (files, reload);
            jobs.add(("reload_certificates", Upkeep), files, move |(job, asked), stop| {
                jobs::reload_certificates::run(job, certificates, asked, stop)
            });
        }
        if self.insecure {
            jobs.add(("warn_insecure", Upkeep), (), move |(), stop| {
                jobs::warn_insecure::run(insecure, stop)
            });
        }
        jobs.add(("detect", Upkeep), Arc::new(self.detect), move |job, stop| {
            jobs::detect::run(job, detect, stop)
        });
        jobs.add(("roll_up", Upkeep), self.roll_up, move |job, stop| {
            jobs::roll_up::run(job, roll_up, stop)
        });
        jobs.add(("watch_restores", Upkeep), self.restores, move |job, stop| {
            jobs::watch_restores::run(job, restores, stop)
        });
        let rotation = self.key_rotation;
        jobs.add(("rotate_keys", Upkeep), self.key_work, move |job, stop| {
            jobs::rotate_keys::run(job, rotation, rotate, stop)
        });
        jobs.set
    }
}

impl Starting<'_> {
    /// Supervises the job that `run` starts with `part`.
    fn add<P, F>(
        &mut self,
        name: (&'static str, TaskNeed),
        part: P,
        run: impl Fn(P, CancellationToken) -> F + Send + 'static,
    ) where
        P: Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks
            .supervise(&mut self.set, name, self.stop, move || run(part.clone(), stop.clone()));
    }
}
