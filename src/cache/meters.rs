//! What is counted of validation from memory.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Metrics;

/// Counters of the session cache and of the one who follows the revocations.
pub(super) struct CacheMeters {
    pub hits: IntCounter,
    pub cold: IntCounter,
    pub stale: IntCounter,
    pub strong: IntCounter,
    pub unavailable: IntCounter,
    pub dropped: IntCounter,
}

impl CacheMeters {
    pub fn new(metrics: &Metrics) -> CacheMeters {
        let misses = misses(metrics);
        CacheMeters {
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
pub(super) struct RevocationFeedMeters {
    pub polls: IntCounter,
    pub received: IntCounter,
    pub lost: IntCounter,
}

impl RevocationFeedMeters {
    pub fn new(metrics: &Metrics) -> RevocationFeedMeters {
        RevocationFeedMeters {
            polls: metrics.counter("revocation_looks_total", "Looks for new revocations."),
            received: metrics.counter("revocations_heard_total", "Revocations heard of."),
            lost: metrics.counter(
                "revocation_connections_lost_total",
                "Times that the connection which follows the revocations was lost, or not made.",
            ),
        }
    }
}
