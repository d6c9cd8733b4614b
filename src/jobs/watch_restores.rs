//! Checks whether the database was restored, and ends the earlier sessions if configured.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::restore::RestoreWatch;

/// Runs until `stop`, with a last check at the end; also between slices, and at once if a restore is suspected.
pub async fn run(restores: RestoreWatch, interval: Duration, stop: CancellationToken) {
    let mut looking = Failures::of("the check for a restored database failed");
    let failed =
        "sessions from before the restore could not be ended; the same again at the next turn";
    let mut ending = Failures::of(failed);
    loop {
        let more = tokio::select! {
            more = turn(interval, &stop) => more,
            () = restores.suspected() => true,
        };
        looking.report(restores.look().await);
        if !more {
            return;
        }
        slices(&stop, &mut ending, || restores.end_slice()).await;
    }
}
