//! Looks whether the database was restored, and ends the sessions from before where that is wanted.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::{slices, turn};
use crate::session::restore::RestoreWatch;

/// Runs until `stop`, and looks once more then; also between slices, and at once where a restore is suspected.
pub async fn run(restores: RestoreWatch, interval: Duration, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let more = tokio::select! {
            more = turn(interval, &stop) => more,
            () = restores.suspected() => true,
        };
        match restores.look().await {
            Ok(()) => failing = false,
            // Each second otherwise, for as long as an outage lasts.
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(%error, "it cannot be told whether the database was restored");
            }
            Err(_) => {}
        }
        if !more {
            return;
        }
        let failed =
            "sessions from before the restore could not be ended; the same again at the next turn";
        slices(&stop, failed, || restores.end_slice()).await;
    }
}
