//! The entrance for the clock: one file a job. A job keeps time and reports; what it does is in
//! the layers below.

pub mod apply_policies;
pub mod detect;
pub mod expire;
pub mod flush_notices;
pub mod flush_touches;
pub mod follow_revocations;
pub mod probe;
pub mod reload_certificates;
pub mod reload_locations;
pub mod retain;
pub mod roll_up;
pub mod rotate_keys;
pub mod tell_revocations;
pub mod warn_insecure;
pub mod watch_restores;

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Result;

/// Waits for the next turn; false if the job must end instead.
async fn turn(interval: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(interval) => true,
    }
}

/// Waits for the next turn, which `asked` brings forward; false if the job must end instead.
async fn turn_or_asked(
    interval: Duration,
    asked: &mut watch::Receiver<()>,
    stop: &CancellationToken,
) -> bool {
    tokio::select! {
        more = turn(interval, stop) => more,
        Ok(()) = asked.changed() => true,
    }
}

/// Takes slice after slice until none is left, one fails, or the job must end; `failed` says what that means.
async fn slices<F>(stop: &CancellationToken, failed: &str, mut slice: impl FnMut() -> F)
where
    F: Future<Output = Result<bool>>,
{
    loop {
        match slice().await {
            Ok(true) if !stop.is_cancelled() => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "{failed}");
                return;
            }
        }
    }
}
