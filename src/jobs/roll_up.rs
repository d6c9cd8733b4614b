//! Counts new activities, batch by batch, until none is left.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::roll_up::RollUp;

/// Runs until `stop`, also between batches.
pub async fn run(roll_up: RollUp, interval: Duration, stop: CancellationToken) {
    let failed = "statistics could not be counted; the same again at the next turn";
    let mut failures = Failures::of(failed);
    while turn(interval, &stop).await {
        slices(&stop, &mut failures, || roll_up.batch()).await;
    }
}
