//! Writes last activity: every few seconds, sooner if other replicas would find a session idle, and at the end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::turn;
use crate::session::touch::Touches;

/// The least time between two flushes, however urgent.
const BREATH: Duration = Duration::from_millis(50);
/// How often locked rows are retried; the sweeper of another replica skips them too.
const RETRY: Duration = Duration::from_millis(250);

/// The retries at the end: as long as a statement would wait for the lock.
const LAST: u32 = 10;

/// Runs until `stop`, then flushes for the last time.
pub async fn run(touches: Touches, interval: Duration, stop: CancellationToken) {
    tokio::join!(flush(&touches, interval, &stop), retry(&touches, &stop));
    for _ in 0..LAST {
        if !touches.has_locked() {
            return;
        }
        tokio::time::sleep(BREATH).await;
        if let Err(error) = touches.retry_locked().await {
            tracing::warn!(%error, "last activity that was locked is lost");
            return;
        }
    }
}

async fn flush(touches: &Touches, interval: Duration, stop: &CancellationToken) {
    let mut failures = Failures::of("last activity could not be written; it is kept");
    loop {
        let more = turn(BREATH.min(interval), stop).await
            && tokio::select! {
                more = turn(interval, stop) => more,
                () = touches.urgent() => true,
            };
        failures.report(touches.flush().await);
        if !more {
            return;
        }
    }
}

async fn retry(touches: &Touches, stop: &CancellationToken) {
    let mut failures =
        Failures::of("last activity that was locked could not be written; it is kept");
    while turn(RETRY, stop).await {
        if touches.has_locked() {
            failures.report(touches.retry_locked().await);
        }
    }
}
