//! Metrics of the caches.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::Metrics;

/// Counters of the session cache and of the revocation feed.
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
            hits: metrics.counter("session_cache_hits_total", "Sessions read from the cache."),
            cold: misses.with_label_values(&["cold"]),
            stale: misses.with_label_values(&["stale"]),
            strong: misses.with_label_values(&["strong"]),
            unavailable: metrics.counter(
                "session_cache_unavailable_total",
                "Misses whose read of the database failed.",
            ),
            dropped: metrics.counter(
                "session_cache_dropped_reads_total",
                "Fills that were not cached, since a revocation arrived meanwhile.",
            ),
        }
    }
}

fn misses(metrics: &Metrics) -> IntCounterVec {
    let help = "Sessions read from the database: not cached, cached too long ago, or on demand.";
    metrics.counters("session_cache_misses_total", help, &["reason"])
}

/// Counters of the revocation feed.
#[derive(Clone)]
pub(super) struct RevocationFeedMeters {
    pub polls: IntCounter,
    pub received: IntCounter,
    pub lost: IntCounter,
}

impl RevocationFeedMeters {
    pub fn new(metrics: &Metrics) -> RevocationFeedMeters {
        RevocationFeedMeters {
            polls: metrics.counter("revocation_polls_total", "Polls for new revocations."),
            received: metrics.counter("revocations_received_total", "Revocations received."),
            lost: metrics.counter(
                "revocation_connections_lost_total",
                "Times that the connection of the revocation feed was lost, or not made.",
            ),
        }
    }
}
