//! What a job tells of its failures: not a line a turn for as long as an outage lasts.

use std::time::{Duration, Instant};

use crate::error::Result;

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(60);

/// Tells when failures begin, once a minute while they last, and when they are over.
pub(super) struct Failures {
    what: &'static str,
    /// When a line was last written; `None` = it works.
    told: Option<Instant>,
    /// Since then.
    untold: u64,
}

impl Failures {
    /// `what` says what a failure means.
    pub fn of(what: &'static str) -> Failures {
        Failures { what, told: None, untold: 0 }
    }

    /// What came of a turn; `None` = it failed.
    pub fn tell<T>(&mut self, result: Result<T>) -> Option<T> {
        let what = self.what;
        match result {
            Ok(done) => {
                if self.told.take().is_some() {
                    tracing::info!(
                        untold = std::mem::take(&mut self.untold),
                        "works again: {what}"
                    );
                }
                Some(done)
            }
            Err(_) if self.told.is_some_and(|told| told.elapsed() < PAUSE) => {
                self.untold += 1;
                None
            }
            Err(error) => {
                self.told = Some(Instant::now());
                tracing::warn!(%error, untold = std::mem::take(&mut self.untold), "{what}");
                None
            }
        }
    }
}
