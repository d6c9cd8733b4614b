//! Counts calls by method and code. All unknown methods share one label.

use std::collections::HashMap;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use crate::grpc::pb;
use crate::metrics::Metrics;

/// The label of every path that is no method.
const OTHER: &str = "other";
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

/// The counters of all methods.
pub struct CallMeters {
    methods: HashMap<String, Method>,
    other: Method,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    Code(Code),
    /// The request message could not be decoded; the status is INTERNAL.
    Unreadable,
}

struct Method {
    codes: Vec<IntCounter>,
    unreadable: IntCounter,
    latency: Histogram,
}

impl CallMeters {
    /// Creates the counters of each method.
    pub fn new(metrics: &Metrics) -> CallMeters {
        let help = "Calls by method and code; of a stream, how it began. UNREADABLE: INTERNAL by the caller's fault.";
        let calls = metrics.counters("grpc_calls_total", help, &["method", "code"]);
        let help = "Time until the answer, or until a stream began.";
        let latencies = metrics.latencies("grpc_call_duration_seconds", help, &["method"]);
        let method = |name: &str| Method::new(name, &calls, &latencies);
        let methods = [pb::DESCRIPTOR, tonic_health::pb::FILE_DESCRIPTOR_SET]
            .into_iter()
            .flat_map(names)
            .map(|name| (format!("/{name}"), method(&name)))
            .collect();
        CallMeters { methods, other: method(OTHER) }
    }

    /// Counts a call to `path`.
    pub fn ended(&self, path: &str, end: CallEnd, took: Duration) {
        let method = self.methods.get(path).unwrap_or(&self.other);
        let counter = match end {
            CallEnd::Code(code) => method.codes.get(code as usize),
            CallEnd::Unreadable => Some(&method.unreadable),
        };
        if let Some(counter) = counter {
            counter.inc();
        }
        method.latency.observe(took.as_secs_f64());
    }
}

impl Method {
    fn new(name: &str, calls: &IntCounterVec, latencies: &HistogramVec) -> Method {
        let counter = |code: &str| calls.with_label_values(&[name, code]);
        Method {
            codes: CODES.map(counter).into(),
            unreadable: counter(UNREADABLE),
            latency: latencies.with_label_values(&[name]),
        }
    }
}

/// The paths of the unary methods of a descriptor set.
pub fn unary(descriptor: &[u8]) -> impl Iterator<Item = String> + use<> {
    let all = methods(descriptor).into_iter();
    all.filter(|(_, method)| !method.client_streaming() && !method.server_streaming())
        .map(|(name, _)| format!("/{name}"))
}

/// The names of the methods in a descriptor set.
pub(super) fn names(descriptor: &[u8]) -> Vec<String> {
    methods(descriptor).into_iter().map(|(name, _)| name).collect()
}

/// The methods in a descriptor set with their names: `package.Service/Method`.
fn methods(descriptor: &[u8]) -> Vec<(String, MethodDescriptorProto)> {
    let set = FileDescriptorSet::decode(descriptor).expect("a descriptor of this build");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let name = |m: &MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), m.name())
            };
            methods.extend(service.method.iter().map(|m| (name(m), m.clone())));
        }
    }
    methods
}
