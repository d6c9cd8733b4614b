//! Writes last activity, every few seconds and once at the end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::turn;
use crate::session::touch::Touches;

/// Runs until `stop`, then flushes for the last time.
pub async fn run(touches: Touches, interval: Duration, stop: CancellationToken) {
    loop {
        let more = turn(interval, &stop).await;
        if let Err(error) = touches.flush().await {
            tracing::warn!(%error, "last activity could not be written; it is kept");
        }
        if !more {
            return;
        }
    }
}
