//! Looks whether the database was restored, and ends the sessions from before where that is wanted.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::restore::RestoreWatch;

/// Runs until `stop`, and looks once more then; also between slices, and at once where a restore is suspected.
pub async fn run(restores: RestoreWatch, interval: Duration, stop: CancellationToken) {
    let mut looking = Failures::of("it cannot be told whether the database was restored");
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
