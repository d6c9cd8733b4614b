//! Sweeps expired sessions, slice by slice, until none is due.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::turn;
use crate::session::expire::Expire;

/// Runs until `stop`, also between slices.
pub async fn run(expire: Expire, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        loop {
            match expire.slice().await {
                Ok(true) if !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "sweep failed; trying again at the next turn");
                    break;
                }
            }
        }
    }
}
