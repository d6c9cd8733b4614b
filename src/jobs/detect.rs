//! Shows new activities to the rules, batch by batch, until none is left.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::{slices, turn};
use crate::session::detect::Detect;

/// Runs until `stop`, also between batches.
pub async fn run(detect: Arc<Detect>, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        let failed = "detection failed; the same again at the next turn";
        slices(&stop, failed, || detect.batch()).await;
    }
}
