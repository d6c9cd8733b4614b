//! What is counted of connections that never got to a call.

use prometheus::{IntCounter, IntCounterVec};

use super::places::Full;
use crate::metrics::Metrics;

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// It took too long.
    Timeout,
    /// It was given up for another.
    GivenUp,
    /// TLS: no certificate, a wrong one, or no TLS at all.
    Tls,
    /// What came is not HTTP/2, or nothing came.
    Protocol,
}

/// The counters, made once.
pub(super) struct Meters {
    full: IntCounter,
    full_peer: IntCounter,
    failed: IntCounterVec,
}

impl Meters {
    pub fn new(metrics: &Metrics) -> Meters {
        let help = "Connections closed at once, because there were as many as may be: in all, or from one peer.";
        let refused = metrics.counters("connections_refused_total", help, &["limit"]);
        let help = "Connections closed before their first call: timeout, given_up for another, tls, protocol.";
        let failed = metrics.counters("handshakes_failed_total", help, &["reason"]);
        for reason in [Failed::Timeout, Failed::GivenUp, Failed::Tls, Failed::Protocol] {
            failed.with_label_values(&[reason.name()]);
        }
        Meters {
            full: refused.with_label_values(&["all"]),
            full_peer: refused.with_label_values(&["peer"]),
            failed,
        }
    }

    pub fn refused(&self, full: Full) {
        match full {
            Full::All => self.full.inc(),
            Full::Peer => self.full_peer.inc(),
        }
    }

    pub fn failed(&self, failed: Failed) {
        self.failed.with_label_values(&[failed.name()]).inc();
    }
}

impl Failed {
    fn name(self) -> &'static str {
        match self {
            Failed::Timeout => "timeout",
            Failed::GivenUp => "given_up",
            Failed::Tls => "tls",
            Failed::Protocol => "protocol",
        }
    }
}
