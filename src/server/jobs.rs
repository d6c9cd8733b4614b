//! The jobs that run beside the requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::settings::Intervals;
use crate::cache::sessions::SessionReader;
use crate::cache::tail::Tail;
use crate::edge::tls::Certificates;
use crate::jobs;
use crate::session::apply_policy::ApplyPolicy;
use crate::session::detect::Detect;
use crate::session::expire::Expire;
use crate::session::location::Locator;
use crate::session::notice::Notices;
use crate::session::retain::Retain;
use crate::session::roll_up::RollUp;
use crate::session::touch::Touches;
use crate::token::key_work::KeyWork;

/// What the jobs work with.
pub(super) struct Jobs {
    pub expire: Expire,
    pub retain: Retain,
    pub apply: ApplyPolicy,
    pub touches: Touches,
    pub notices: Notices,
    pub reader: SessionReader,
    pub tail: Tail,
    pub locator: Locator,
    /// `None` = no TLS.
    pub certificates: Option<Arc<Certificates>>,
    pub insecure: bool,
    pub detect: Detect,
    pub roll_up: RollUp,
    pub key_work: KeyWork,
    pub key_rotation: Duration,
    pub intervals: Intervals,
}

impl Jobs {
    /// Starts them all; each ends soon after `stop`.
    pub fn start(self, up: watch::Sender<bool>, stop: &CancellationToken) -> JoinSet<()> {
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
        } = self.intervals;
        let mut jobs = JoinSet::new();
        jobs.spawn(jobs::expire::run(self.expire, sweep, stop.clone()));
        jobs.spawn(jobs::flush_touches::run(self.touches, flush, stop.clone()));
        jobs.spawn(jobs::flush_notices::run(self.notices, flush, stop.clone()));
        jobs.spawn(jobs::follow_revocations::run(self.tail, stop.clone()));
        jobs.spawn(jobs::probe::run(self.reader, up, probe, stop.clone()));
        jobs.spawn(jobs::retain::run(self.retain, retain, stop.clone()));
        jobs.spawn(jobs::apply_policies::run(self.apply, apply, stop.clone()));
        jobs.spawn(jobs::reload_locations::run(self.locator, locations, stop.clone()));
        if let Some(files) = self.certificates {
            jobs.spawn(jobs::reload_certificates::run(files, certificates, stop.clone()));
        }
        if self.insecure {
            jobs.spawn(jobs::warn_insecure::run(insecure, stop.clone()));
        }
        jobs.spawn(jobs::detect::run(self.detect, detect, stop.clone()));
        jobs.spawn(jobs::roll_up::run(self.roll_up, roll_up, stop.clone()));
        let rotation = self.key_rotation;
        jobs.spawn(jobs::rotate_keys::run(self.key_work, rotation, rotate, stop.clone()));
        jobs
    }
}
