//! Applies the rules to new activities, batch by batch, until none is left.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::detect::Detect;

/// Runs until `stop`, also between batches.
pub async fn run(detect: Arc<Detect>, interval: Duration, stop: CancellationToken) {
    let mut failures = Failures::of("detection failed; the same again at the next turn");
    while turn(interval, &stop).await {
        slices(&stop, &mut failures, || detect.batch()).await;
    }
}
