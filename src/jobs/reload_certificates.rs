//! Checks the files of certificates, and reads changed ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::edge::tls::Certificates;
use crate::jobs::turn_or_woken;

/// Runs until `stop`; `asked` starts a check at once.
pub async fn run(
    certificates: Arc<Certificates>,
    interval: Duration,
    mut asked: watch::Receiver<()>,
    stop: CancellationToken,
) {
    while turn_or_woken(interval, &mut asked, &stop).await {
        let certificates = certificates.clone();
        if tokio::task::spawn_blocking(move || certificates.reload()).await.is_err() {
            tracing::error!("certificates could not be read; the old stay");
        }
    }
}
