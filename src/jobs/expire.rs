//! Sweeps expired sessions, slice by slice, until none is due.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::expire::Expire;

/// Runs until `stop`, also between slices.
pub async fn run(expire: Arc<Expire>, interval: Duration, stop: CancellationToken) {
    let mut failures = Failures::of("sweep failed; trying again at the next turn");
    while turn(interval, &stop).await {
        slices(&stop, &mut failures, || expire.slice()).await;
    }
}
