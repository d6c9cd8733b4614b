//! Notifies the other replicas of revocations by this one.

use tokio_util::sync::CancellationToken;

use crate::cache::revocation_feed::RevocationFeed;

/// Runs until `stop`.
pub async fn run(revocation_feed: RevocationFeed, stop: CancellationToken) {
    tokio::select! {
        () = revocation_feed.notify_replicas() => {}
        () = stop.cancelled() => {}
    }
}
