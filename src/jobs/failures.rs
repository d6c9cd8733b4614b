//! Logs the failures of a job, at a limited rate during an outage.

use std::time::{Duration, Instant};

use crate::error::Result;

/// The least time between two lines about one failure.
const PAUSE: Duration = Duration::from_secs(60);

/// Logs the first failure, one line a minute while failures last, and the recovery.
pub(super) struct Failures {
    what: &'static str,
    /// When a line was last written; `None` = no failure.
    reported: Option<Instant>,
    /// The failures since then.
    suppressed: u64,
}

impl Failures {
    /// `what` describes a failure in the log.
    pub fn of(what: &'static str) -> Failures {
        Failures { what, reported: None, suppressed: 0 }
    }

    /// Reports the result of a turn; `None` = it failed.
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
