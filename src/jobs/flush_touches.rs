//! Writes last activity: every few seconds, sooner where a session would pass for idle elsewhere, and at the end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::turn;
use crate::session::touch::Touches;

/// The least time between two flushes, however urgent.
const BREATH: Duration = Duration::from_millis(50);

/// Runs until `stop`, then flushes for the last time.
pub async fn run(touches: Touches, interval: Duration, stop: CancellationToken) {
    let mut failures = Failures::of("last activity could not be written; it is kept");
    loop {
        let more = turn(BREATH.min(interval), &stop).await
            && tokio::select! {
                more = turn(interval, &stop) => more,
                () = touches.urgent() => true,
            };
        failures.tell(touches.flush().await);
        if !more {
            return;
        }
    }
}
