//! What a job tells of its failures: not a line a turn for as long as an outage lasts.

use std::time::{Duration, Instant};

use crate::error::Result;

/// Between two lines about the same.
const PAUSE: Duration = Duration::from_secs(60);

/// Tells when failures begin, once a minute while they last, and when they are over.
pub(super) struct Failures {
    what: &'static str,
    /// When a line was last written; `None` = it works.
    reported: Option<Instant>,
    /// Since then.
    suppressed: u64,
}

impl Failures {
    /// `what` says what a failure means.
    pub fn of(what: &'static str) -> Failures {
        Failures { what, reported: None, suppressed: 0 }
    }

    /// What came of a turn; `None` = it failed.
    pub fn report<T>(&mut self, result: Result<T>) -> Option<T> {
        let what = self.what;
        match result {
            Ok(done) => {
                if self.reported.take().is_some() {
                    tracing::info!(
                        suppressed = std::mem::take(&mut self.suppressed),
                        "works again: {what}"
                    );
                }
                Some(done)
            }
            Err(_) if self.reported.is_some_and(|reported| reported.elapsed() < PAUSE) => {
                self.suppressed += 1;
                None
            }
            Err(error) => {
                self.reported = Some(Instant::now());
                tracing::warn!(%error, suppressed = std::mem::take(&mut self.suppressed), "{what}");
                None
            }
        }
    }
}
