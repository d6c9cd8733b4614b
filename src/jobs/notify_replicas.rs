//! Tells the other replicas of what is revoked here.

use tokio_util::sync::CancellationToken;

use crate::cache::revocation_feed::RevocationFeed;

/// Runs until `stop`.
pub async fn run(revocation_feed: RevocationFeed, stop: CancellationToken) {
    tokio::select! {
        () = revocation_feed.notify_replicas() => {}
        () = stop.cancelled() => {}
    }
}
