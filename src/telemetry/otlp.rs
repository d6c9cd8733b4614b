//! Traces, sent to a collector: OTLP over gRPC, from a bounded queue that drops spans when full.

use std::time::Duration;

use anyhow::Context;
use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// Sends spans to the collector, in batches.
#[derive(Clone)]
pub struct Sender(SdkTracerProvider);

impl Sender {
    /// Sends to `endpoint`; samples the share `ratio`, from 0 to 1, of the traces that begin here. Within a runtime.
    ///
    /// # Errors
    /// If the endpoint is invalid.
    pub fn to(endpoint: &str, ratio: f64) -> anyhow::Result<Sender> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.context("--otlp-endpoint")?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(Resource::builder().with_service_name("sessiond").build());
        Ok(Sender(provider.build()))
    }

    /// The layer that turns spans into traces.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("sessiond"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }

    /// Sends the queued spans; waits for the collector for at most `within`.
    pub fn finish(&self, within: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Makes `span` a child of the caller's trace, if the call has one (W3C Trace Context, `traceparent`).
pub fn go_on(span: &Span, headers: &HeaderMap) {
    // Without a valid header the span begins a trace. A disabled span has no parent to set.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
