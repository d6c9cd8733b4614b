//! The tower layer around every call: a request id, a span, and one log line when it ends.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tonic::Status;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::clock::Clock;
use crate::grpc::meters::Calls;

/// Read from the request if it is sound, and returned with the response.
const REQUEST_ID: &str = "x-request-id";

/// The request id of a call, in its extensions.
#[derive(Clone)]
pub struct CallId(pub Arc<str>);

/// Makes [`Observe`].
#[derive(Clone)]
pub struct ObserveLayer(pub Clock, pub Arc<Calls>);

/// Observes every call of `inner`.
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    clock: Clock,
    calls: Arc<Calls>,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;
    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, clock: self.0.clone(), calls: self.1.clone() }
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
        let id = id.unwrap_or_else(|| {
            HeaderValue::from_str(&self.clock.new_id().to_string()).expect("a UUID is ASCII")
        });
        let text = String::from_utf8_lossy(id.as_bytes()).into_owned();
        let path = request.uri().path().to_owned();
        let span = tracing::info_span!("call", method = %path.escape_debug(), request_id = %text);
        request.extensions_mut().insert(CallId(text.into()));
        let start = Instant::now();
        let call = self.inner.call(request);
        let calls = self.calls.clone();
        let observed = async move {
            let mut result = call.await;
            let took = start.elapsed();
            let millis = took.as_secs_f64() * 1e3;
            match &mut result {
                Ok(response) => {
                    // A refusal travels in the headers; what is not there is in the trailers: OK.
                    let status = Status::from_header_map(response.headers());
                    let code = status.as_ref().map(Status::code).unwrap_or(tonic::Code::Ok);
                    calls.ended(&path, code, took);
                    match code {
                        tonic::Code::Ok => tracing::debug!(millis, "ok"),
                        code => tracing::info!(millis, ?code, "refused"),
                    }
                    response.headers_mut().insert(REQUEST_ID, id);
                }
                Err(error) => {
                    calls.ended(&path, tonic::Code::Unknown, took);
                    tracing::warn!(millis, %error, "failed");
                }
            }
            result
        };
        Box::pin(observed.instrument(span))
    }
}

/// Up to 128 characters that are safe in any log.
fn is_sound(id: &HeaderValue) -> bool {
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"._:-".contains(b);
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(safe)
}
