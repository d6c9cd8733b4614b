//! Keeps tables in shape: partitions ahead of time, nothing remembered for longer than promised.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::turn;
use crate::session::retain::Retain;

/// Runs until `stop`.
pub async fn run(retain: Retain, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        if let Err(error) = retain.create_partitions().await {
            tracing::warn!(%error, "partitions could not be created ahead");
        }
        loop {
            match retain.prune_slice().await {
                Ok(true) if !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old request ids could not be deleted");
                    break;
                }
            }
        }
    }
}
