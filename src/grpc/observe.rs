//! The tower layer around every call: it adds a request id and a span, and writes one log line when the call ends.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::clock::Clock;
use crate::grpc::error::explained;
use crate::grpc::meters::{CallEnd, CallMeters};
#[cfg(feature = "otlp")]
use crate::telemetry::otlp;

/// The header of the request id: read from the request if valid, and returned with the response.
const REQUEST_ID: &str = "x-request-id";
/// The most frequent method. Unless calls are traced, it gets a span only if it fails.
const VALIDATE: &str = "/sessiond.v1.SessionService/ValidateSession";

/// The request id of a call, in the request's extensions.
#[derive(Clone)]
pub struct CallId(pub HeaderValue);

/// The layer that wraps a service in [`Observe`].
#[derive(Clone)]
pub struct ObserveLayer {
    pub clock: Clock,
    pub calls: Arc<CallMeters>,
    /// Each call is part of a trace.
    pub traced: bool,
}

/// Observes every call of `inner`.
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;
    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, layer: self.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Observe<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: std::fmt::Display,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let id = request.headers().get(REQUEST_ID).filter(|id| is_sound(id)).cloned();
        let id = id.unwrap_or_else(|| header(self.layer.clock.new_id()));
        let uri = request.uri().clone();
        let frequent = !self.layer.traced && uri.path() == VALIDATE;
        let around = if frequent { Span::none() } else { span(uri.path(), &id) };
        #[cfg(feature = "otlp")]
        if self.layer.traced {
            otlp::go_on(&around, request.headers());
        }
        request.extensions_mut().insert(CallId(id.clone()));
        let start = Instant::now();
        let call = self.inner.call(request);
        let calls = self.layer.calls.clone();
        let observed = async move {
            let mut result = call.await;
            let took = start.elapsed();
            let (code, bare) = match &mut result {
                Ok(response) => {
                    // An error status is in the headers. Without one, the status is in the trailers and counts as OK.
                    let status = Status::from_header_map(response.headers());
                    let explained = status.as_ref().and_then(explained);
                    let bare = explained.is_some();
                    if let Some(Err(status)) =
                        explained.map(|it| it.add_header(response.headers_mut()))
                    {
                        tracing::warn!(%status, "a refusal without its reason");
                    }
                    response.headers_mut().insert(REQUEST_ID, id.clone());
                    (status.map_or(Code::Ok, |status| status.code()), bare)
                }
                Err(_) => (Code::Unknown, true),
            };
            let end = match code {
                // Handlers add details to their errors. Without details, tonic could not decode the message.
                Code::Internal if bare => CallEnd::Unreadable,
                _ => CallEnd::Code(code),
            };
            calls.ended(uri.path(), end, took);
            let around = match (frequent, code) {
                (true, Code::Ok) => return result,
                (true, _) => span(VALIDATE, &id),
                (false, _) => Span::current(),
            };
            let millis = took.as_secs_f64() * 1e3;
            around.in_scope(|| match (&result, code) {
                (Err(error), _) => tracing::warn!(millis, %error, "failed"),
                (Ok(_), Code::Ok) => tracing::debug!(millis, "ok"),
                (Ok(_), code) => tracing::info!(millis, ?code, "refused"),
            });
            result
        };
        Box::pin(observed.instrument(around))
    }
}

/// The span of a call; every log line within it has its fields.
fn span(path: &str, id: &HeaderValue) -> Span {
    let id = id.to_str().unwrap_or_default();
    tracing::info_span!("call", method = %path.escape_debug(), request_id = id)
}

fn header(id: Uuid) -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).expect("a UUID is ASCII")
}

/// Whether a request id has 1 to 128 characters, all safe in any log.
fn is_sound(id: &HeaderValue) -> bool {
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"._:-".contains(b);
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(safe)
}
