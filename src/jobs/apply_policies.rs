//! Applies changed policies to running sessions: continues unfinished calls, and repeats each change once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::apply_policy::ApplyPolicy;

/// Runs until `stop`, also between batches.
pub async fn run(apply: ApplyPolicy, interval: Duration, stop: CancellationToken) {
    let mut failures = Failures::of("a policy could not be applied; trying again later");
    while turn(interval, &stop).await {
        slices(&stop, &mut failures, || apply.turn(|| stop.is_cancelled())).await;
    }
}
