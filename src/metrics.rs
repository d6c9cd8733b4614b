//! Metrics of one server, for Prometheus to scrape. Handles are made once, so counting is one addition.

use std::sync::{Arc, Mutex, MutexGuard};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
    TextEncoder,
};

/// Upper bounds of latencies, in seconds.
const LATENCIES: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// The metrics of a server. Cheap to clone; clones share them. Each name gets the prefix `sessiond_`.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    registry: Registry,
    sampled: Mutex<Vec<Sample>>,
}

/// Brings a metric up to date.
type Sample = Box<dyn Fn() + Send + Sync>;

impl Metrics {
    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(options(name, help)))
    }

    /// A counter for each combination of label values, of which there must be few.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(options(name, help), labels))
    }

    /// A histogram of latencies in seconds, for each combination of label values.
    pub fn latencies(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::from(options(name, help)).buckets(LATENCIES.to_vec());
        self.register(HistogramVec::new(options, labels))
    }

    /// A gauge whose value is read at each scrape.
    pub fn sampled(
        &self,
        name: &str,
        help: &str,
        sample: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let gauge = self.register(Gauge::with_opts(options(name, help)));
        self.lock().push(Box::new(move || gauge.set(sample())));
    }

    /// A counter whose value is read at each scrape; its name ends in `_total`.
    pub fn counted(&self, name: &str, help: &str, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let counter = self.counter(name, help);
        self.lock().push(Box::new(move || counter.inc_by(count().saturating_sub(counter.get()))));
    }

    /// All metrics in the text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        self.lock().iter().for_each(|sample| sample());
        let mut text = Vec::new();
        let written = TextEncoder::new().encode(&self.0.registry.gather(), &mut text);
        written.expect("writing to memory");
        String::from_utf8(text).expect("text")
    }

    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect("a name and labels that Prometheus allows");
        self.0.registry.register(Box::new(made.clone())).expect("a name that is used once");
        made
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.0.sampled.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("sessiond_{name}"), help)
}
