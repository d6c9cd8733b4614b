//! Counts calls by method and code. All unknown methods share one label.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use tonic::Code;

use crate::metrics::Metrics;

/// The label of every path that is no method.
pub(super) const OTHER: &str = "other";
/// The codes of gRPC, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The label of calls whose message cannot be decoded: INTERNAL by gRPC's statuscodes.md, but the fault of the caller.
const UNREADABLE: &str = "UNREADABLE";

/// The families of metrics about calls.
pub(super) struct CallMeters {
    calls: IntCounterVec,
    latencies: HistogramVec,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallEnd {
    Code(Code),
    /// Its message could not be read; the answer is INTERNAL.
    Unreadable,
}

/// The counters of one method.
pub struct MethodMeters {
    codes: Vec<IntCounter>,
    unreadable: IntCounter,
    latency: Histogram,
}

impl CallMeters {
    pub fn new(metrics: &Metrics) -> CallMeters {
        let help = "Calls by method and code; of a stream, how it began. UNREADABLE: INTERNAL by the caller's fault.";
        let calls = metrics.counters("grpc_calls_total", help, &["method", "code"]);
        let help = "Time until the answer, or until a stream began.";
        let latencies = metrics.latencies("grpc_call_duration_seconds", help, &["method"]);
        CallMeters { calls, latencies }
    }

    /// The counters of the method with this name, or of all paths that are no method ([`OTHER`]).
    pub fn of_method(&self, name: &str) -> MethodMeters {
        let counter = |code: &str| self.calls.with_label_values(&[name, code]);
        MethodMeters {
            codes: CODES.map(counter).into(),
            unreadable: counter(UNREADABLE),
            latency: self.latencies.with_label_values(&[name]),
        }
    }
}

impl MethodMeters {
    /// Counts a call.
    pub(super) fn ended(&self, end: CallEnd, took: Duration) {
        let counter = match end {
            CallEnd::Code(code) => self.codes.get(code as usize),
            CallEnd::Unreadable => Some(&self.unreadable),
        };
        if let Some(counter) = counter {
            counter.inc();
        }
        self.latency.observe(took.as_secs_f64());
    }
}
