//! Counts rows that cannot be handled and are skipped, so that they block no others.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Metrics;

/// Makes a counter for each reader or writer. Cheap to clone.
#[derive(Clone)]
pub struct SkippedRows(IntCounterVec);

impl SkippedRows {
    /// Counts in `metrics`.
    pub fn new(metrics: &Metrics) -> SkippedRows {
        let help = "Rows that could not be read or written and were skipped, by the job that did.";
        SkippedRows(metrics.counters("skipped_rows_total", help, &["by"]))
    }

    /// The counter of the rows that `by` skips.
    pub fn by(&self, by: &str) -> IntCounter {
        self.0.with_label_values(&[by])
    }
}
