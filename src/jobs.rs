//! Periodic jobs, one a file. A job schedules and reports; the layers below do the work.

pub mod apply_policies;
pub mod detect;
pub mod expire;
pub mod flush_observations;
pub mod flush_touches;
pub mod follow_revocations;
pub mod notify_replicas;
pub mod probe;
pub mod reload_certificates;
pub mod reload_locations;
pub mod retain;
pub mod roll_up;
pub mod rotate_keys;
pub mod warn_insecure;
pub mod watch_restores;

mod failures;

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::jobs::failures::Failures;

/// Waits for the next turn; false if the job must end instead.
async fn turn(interval: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(interval) => true,
    }
}

/// Waits for the next turn, or until `asked` wakes it; false if the job must end instead.
async fn turn_or_woken(
    interval: Duration,
    asked: &mut watch::Receiver<()>,
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        more = turn(interval, stop) => more,
        Ok(()) = asked.changed() => true,
    }
}

/// Runs slice after slice until none is left, one fails, or the job must end.
async fn slices<F>(stop: &CancellationToken, failures: &mut Failures, mut slice: impl FnMut() -> F)
where
    F: Future<Output = Result<bool>>,
{
    while failures.report(slice().await).is_some_and(|more| more) && !stop.is_cancelled() {}
}
