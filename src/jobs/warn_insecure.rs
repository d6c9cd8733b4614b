//! Repeats the warning that the server runs without authentication.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::turn;

/// Runs until `stop`; begins at once.
pub async fn run(interval: Duration, stop: CancellationToken) {
    loop {
        tracing::warn!(
            "--dangerously-insecure: anyone who reaches the port may read and end all sessions"
        );
        if !turn(interval, &stop).await {
            return;
        }
    }
}
