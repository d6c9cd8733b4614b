//! Maintains the tables: creates partitions ahead of time, and deletes rows past their retention.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::jobs::failures::Failures;
use crate::jobs::{slices, turn};
use crate::session::retain::Retain;

/// Runs until `stop`.
pub async fn run(retain: Arc<Retain>, interval: Duration, stop: CancellationToken) {
    while turn(interval, &stop).await {
        if let Err(error) = retain.create_partitions().await {
            tracing::warn!(%error, "partitions could not be created ahead");
        }
        clear(&stop, "old activities could not be dropped", || retain.drop_month()).await;
        clear(&stop, "old stray activities could not be deleted", || retain.drop_strays()).await;
        if let Err(error) = retain.count_strays().await {
            tracing::warn!(%error, "stray activities could not be counted");
        }
        clear(&stop, "old request ids could not be deleted", || retain.prune_slice()).await;
        clear(&stop, "old revocations could not be deleted", || retain.prune_revocations()).await;
        clear(&stop, "old networks could not be deleted", || retain.forget_slice()).await;
        clear(&stop, "old statistics could not be deleted", || retain.prune_figures()).await;
    }
}

/// Runs slice after slice. Turns are so rare that each logs its own failure.
async fn clear<F>(stop: &CancellationToken, failed: &'static str, slice: impl FnMut() -> F)
where
    F: Future<Output = Result<bool>>,
{
    slices(stop, &mut Failures::of(failed), slice).await;
}
