//! Follows what is revoked anywhere, and tells others of what is revoked here.

use tokio_util::sync::CancellationToken;

use crate::cache::tail::Tail;

/// Runs until `stop`.
pub async fn run(tail: Tail, stop: CancellationToken) {
    tokio::select! {
        () = tail.follow() => {}
        () = tail.tell() => {}
        () = stop.cancelled() => {}
    }
}
