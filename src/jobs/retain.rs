//! Keeps tables in shape: partitions ahead of time, nothing remembered for longer than promised.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::retain::Retain;

/// Runs until `stop`.
pub async fn run(retain: Arc<Retain>, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        if let Err(error) = retain.create_partitions().await {
            tracing::warn!(%error, "partitions could not be created ahead");
        }
        slices(&stop, &mut Failures::of("old activities could not be dropped"), || {
            retain.drop_month()
        })
        .await;
        slices(&stop, &mut Failures::of("old stray activities could not be deleted"), || {
            retain.drop_strays()
        })
        .await;
        if let Err(error) = retain.count_strays().await {
            tracing::warn!(%error, "stray activities could not be counted");
        }
        slices(&stop, &mut Failures::of("old request ids could not be deleted"), || {
            retain.prune_slice()
        })
        .await;
        let failed = "old revocations could not be deleted";
        slices(&stop, &mut Failures::of(failed), || retain.prune_revocations()).await;
        slices(&stop, &mut Failures::of("old networks could not be forgotten"), || {
            retain.forget_slice()
        })
        .await;
        slices(&stop, &mut Failures::of("old statistics could not be deleted"), || {
            retain.prune_figures()
        })
        .await;
    }
}
