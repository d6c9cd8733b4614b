//! Counters of connections that were refused, failed in the handshake, or broke the protocol.

use prometheus::{IntCounter, IntCounterVec};

use super::slots::Full;
use crate::metrics::Metrics;

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeFailure {
    /// It exceeded the handshake timeout.
    Timeout,
    /// A later handshake displaced it.
    GivenUp,
    /// TLS failed: no client certificate, an invalid one, or no TLS at all.
    Tls,
    /// The first bytes are not HTTP/2.
    Protocol,
    /// The peer closed the connection, or the network failed.
    Left,
}

/// The counters, created once.
pub(super) struct EdgeMeters {
    full: IntCounter,
    full_peer: IntCounter,
    paced: IntCounter,
    breaches: IntCounter,
    failed: IntCounterVec,
    pub unread: IntCounter,
}

impl EdgeMeters {
    pub fn new(metrics: &Metrics) -> EdgeMeters {
        let help = "Connections closed at once: as many as may be in all, or from one peer, or it came too often (rate).";
        let refused = metrics.counters("connections_refused_total", help, &["limit"]);
        let help = "Connections closed before their first call: timeout, given_up for another, tls, protocol, left.";
        let failed = metrics.counters("handshakes_failed_total", help, &["reason"]);
        let all = [
            HandshakeFailure::Timeout,
            HandshakeFailure::GivenUp,
            HandshakeFailure::Tls,
            HandshakeFailure::Protocol,
            HandshakeFailure::Left,
        ];
        for reason in all {
            failed.with_label_values(&[reason.name()]);
        }
        EdgeMeters {
            full: refused.with_label_values(&["all"]),
            full_peer: refused.with_label_values(&["peer"]),
            paced: refused.with_label_values(&["rate"]),
            breaches: metrics.counter(
                "connections_breached_total",
                "Connections closed because the peer broke the rules of TLS or HTTP/2, or took too long to begin.",
            ),
            failed,
            unread: metrics.counter(
                "answers_unread_total",
                "Streams reset and connections closed because an answer lay unread for too long.",
            ),
        }
    }

    pub fn refused(&self, full: Full) {
        match full {
            Full::All => self.full.inc(),
            Full::Peer => self.full_peer.inc(),
        }
    }

    pub fn paced(&self) {
        self.paced.inc();
    }

    pub fn breached(&self) {
        self.breaches.inc();
    }

    pub fn failed(&self, failed: HandshakeFailure) {
        self.failed.with_label_values(&[failed.name()]).inc();
    }
}

impl HandshakeFailure {
    /// Whether the peer is at fault. It is not if a later handshake displaced its own, or if it left.
    pub fn is_breach(self) -> bool {
        !matches!(self, HandshakeFailure::GivenUp | HandshakeFailure::Left)
    }

    fn name(self) -> &'static str {
        match self {
            HandshakeFailure::Timeout => "timeout",
            HandshakeFailure::GivenUp => "given_up",
            HandshakeFailure::Tls => "tls",
            HandshakeFailure::Protocol => "protocol",
            HandshakeFailure::Left => "left",
        }
    }
}
