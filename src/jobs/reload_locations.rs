//! Checks the files of locations, and reads changed ones.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::jobs::turn_or_woken;
use crate::session::location::Locator;

/// Runs until `stop`; `asked` starts a check at once.
pub async fn run(
    locator: Locator,
    interval: Duration,
    mut asked: watch::Receiver<()>,
    stop: CancellationToken,
) {
    while turn_or_woken(interval, &mut asked, &stop).await {
        let locator = locator.clone();
        // Reading and verifying takes a while, so it does not run on a thread that serves requests.
        if tokio::task::spawn_blocking(move || locator.reload()).await.is_err() {
            tracing::error!("locations could not be read; the old stay");
        }
    }
}
