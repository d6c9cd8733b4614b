//! Counts rows that a job could not read or write and skipped, so that they stop no other.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Metrics;

/// Makes a counter for each who passes over something. Cheap to clone.
#[derive(Clone)]
pub struct SkippedRows(IntCounterVec);

impl SkippedRows {
    /// Counts in `metrics`.
    pub fn new(metrics: &Metrics) -> SkippedRows {
        let help = "Rows that could not be read or written and were skipped, by the job that did.";
        SkippedRows(metrics.counters("skipped_rows_total", help, &["by"]))
    }

    /// What `by` passes over.
    pub fn by(&self, by: &str) -> IntCounter {
        self.0.with_label_values(&[by])
    }
}
