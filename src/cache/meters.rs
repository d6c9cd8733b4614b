//! What is counted of validation from memory.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Metrics;

/// Counters of the session cache and of the one who follows the revocations.
pub(super) struct Meters {
    pub hits: IntCounter,
    pub cold: IntCounter,
    pub stale: IntCounter,
    pub strong: IntCounter,
    pub unavailable: IntCounter,
    pub dropped: IntCounter,
}

impl Meters {
    pub fn new(metrics: &Metrics) -> Meters {
        let misses = misses(metrics);
        Meters {
            hits: metrics.counter("session_cache_hits_total", "Sessions that were known by heart."),
            cold: misses.with_label_values(&["cold"]),
            stale: misses.with_label_values(&["stale"]),
            strong: misses.with_label_values(&["strong"]),
            unavailable: metrics.counter(
                "session_cache_unavailable_total",
                "Sessions not known recently enough that the database did not tell either.",
            ),
            dropped: metrics.counter(
                "session_cache_dropped_reads_total",
                "Reads that were not kept, since a revocation was heard of meanwhile.",
            ),
        }
    }
}

fn misses(metrics: &Metrics) -> IntCounterVec {
    let help =
        "Sessions read from the database: not known, not known recently enough, or by demand.";
    metrics.counters("session_cache_misses_total", help, &["reason"])
}

/// Counters of the one who follows the revocations.
#[derive(Clone)]
pub(super) struct TailMeters {
    pub looks: IntCounter,
    pub heard: IntCounter,
    pub lost: IntCounter,
}

impl TailMeters {
    pub fn new(metrics: &Metrics) -> TailMeters {
        TailMeters {
            looks: metrics.counter("revocation_looks_total", "Looks for new revocations."),
            heard: metrics.counter("revocations_heard_total", "Revocations heard of."),
            lost: metrics.counter(
                "revocation_connections_lost_total",
                "Times that the connection which follows the revocations was lost, or not made.",
            ),
        }
    }
}
