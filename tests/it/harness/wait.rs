//! Waiting for an event, with a timeout.

use std::time::Duration;

/// Repeats `happened` until it returns true.
///
/// # Panics
/// After a minute.
pub async fn until(mut happened: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let asking = async {
        loop {
            ticks.tick().await;
            if happened().await {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .expect("the event, within a minute");
}
