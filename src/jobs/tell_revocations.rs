//! Tells the other replicas of what is revoked here.

use tokio_util::sync::CancellationToken;

use crate::cache::tail::Tail;

/// Runs until `stop`.
pub async fn run(tail: Tail, stop: CancellationToken) {
    tokio::select! {
        () = tail.tell() => {}
        () = stop.cancelled() => {}
    }
}
