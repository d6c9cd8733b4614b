//! Looks whether the files of certificates changed, and reads those that did.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::edge::tls::Certificates;
use crate::jobs::turn;

/// Runs until `stop`.
pub async fn run(certificates: Arc<Certificates>, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        let certificates = certificates.clone();
        if tokio::task::spawn_blocking(move || certificates.reload()).await.is_err() {
            tracing::error!("certificates could not be read; the old stay");
        }
    }
}
