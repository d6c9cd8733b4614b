//! Writes observations to the audit trail, every few seconds and once at the end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::turn;
use crate::session::observations::Observations;

/// Runs until `stop`, then flushes for the last time.
pub async fn run(observations: Observations, interval: Duration, stop: CancellationToken) {
    let mut failures = Failures::of("observations could not be written; they stay in the buffer");
    loop {
        let more = turn(interval, &stop).await;
        failures.report(observations.flush(!more).await);
        if !more {
            return;
        }
    }
}
