//! Applies changed policies to running sessions: what a call left undone, and each change once more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::turn;
use crate::session::apply_policy::ApplyPolicy;

/// Runs until `stop`, also between batches.
pub async fn run(apply: ApplyPolicy, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        loop {
            match apply.turn(|| stop.is_cancelled()).await {
                Ok(true) if !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "a policy could not be applied; trying again later");
                    break;
                }
            }
        }
    }
}
