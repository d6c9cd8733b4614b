//! Checks that the database answers and takes writes, for the health service.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::sessions::SessionReader;
use crate::jobs::turn;

/// Runs until `stop`; `up` holds the last result.
pub async fn run(
    reader: SessionReader,
    up: watch::Sender<bool>,
    interval: Duration,
    stop: CancellationToken,
) {
    while turn(interval, &stop).await {
        let answer = reader.ping().await;
        let changed = up.send_if_modified(|up| {
            let changed = *up != answer.is_ok();
            *up = answer.is_ok();
            changed
        });
        match answer {
            Ok(()) if changed => tracing::info!("the database answers again and takes writes"),
            Err(error) if changed => {
                tracing::error!(%error, "the database does not answer, or takes no writes")
            }
            _ => {}
        }
    }
}
