//! Publishes the successors of keys at the end of their signing time, and deletes expired keys.

use std::time::Duration;

use chrono::Duration as Length;
use tokio_util::sync::CancellationToken;

use crate::jobs::turn;
use crate::token::key_life::Purpose;
use crate::token::key_work::KeyWork;

/// Runs until `stop`. `after` is how long a key signs; zero = no automatic rotation.
pub async fn run(work: KeyWork, after: Duration, interval: Duration, stop: CancellationToken) {
    let after = Length::from_std(after).unwrap_or(Length::MAX);
    while turn(interval, &stop).await {
        for purpose in Purpose::ALL {
            if after.is_zero() {
                continue;
            }
            if let Err(error) = work.rotate_if_older(purpose, after).await {
                tracing::warn!(%error, purpose = purpose.name(), "keys could not be rotated");
            }
        }
        if let Err(error) = work.forget_gone().await {
            tracing::warn!(%error, "keys that are gone could not be forgotten");
        }
    }
}
