//! Reads the revocation feed.

use tokio_util::sync::CancellationToken;

use crate::cache::revocation_feed::RevocationFeed;

/// Runs until `stop`.
pub async fn run(revocation_feed: RevocationFeed, stop: CancellationToken) {
    tokio::select! {
        () = revocation_feed.follow() => {}
        () = stop.cancelled() => {}
    }
}
