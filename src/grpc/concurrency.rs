//! The tower layer that limits calls: how many are in progress, and how long each may take.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use prometheus::IntCounter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tower::{Layer, Service};

use crate::error::Error;
use crate::grpc::{deadline, meters, pb};
use crate::metrics::Metrics;

/// The header with the caller's timeout. For unary calls the layer lowers it to the server's own timeout.
const TIMEOUT: &str = "grpc-timeout";

/// The layer that wraps a service in [`ConcurrencyLimit`].
#[derive(Clone)]
pub struct ConcurrencyLimitLayer(Arc<Limits>);

struct Limits {
    slots: Arc<Semaphore>,
    /// How long a call may take from its headers to its response.
    timeout: Duration,
    /// The paths of unary methods.
    unary: HashSet<String>,
    in_progress: Arc<AtomicUsize>,
    shed: IntCounter,
}

impl ConcurrencyLimitLayer {
    /// Allows `most` calls and streams at once, and `timeout` for each call.
    pub fn new(most: u32, timeout: Duration, metrics: &Metrics) -> ConcurrencyLimitLayer {
        let in_progress = Arc::new(AtomicUsize::new(0));
        let in_progress_guard = in_progress.clone();
        let help = "Calls and streams whose answer is not over.";
        metrics.sampled("requests_in_progress", help, move || {
            in_progress_guard.load(Ordering::Relaxed) as f64
        });
        let help = "Calls refused because there were as many in progress as may be.";
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        ConcurrencyLimitLayer(Arc::new(Limits {
            slots: Arc::new(Semaphore::new(most)),
            timeout,
            unary: meters::unary(pb::DESCRIPTOR).collect(),
            in_progress,
            shed: metrics.counter("requests_shed_total", help),
        }))
    }
}

/// Passes calls to `inner` within the limits.
#[derive(Clone)]
pub struct ConcurrencyLimit<S> {
    inner: S,
    limits: Arc<Limits>,
}

impl<S> Layer<S> for ConcurrencyLimitLayer {
    type Service = ConcurrencyLimit<S>;
    fn layer(&self, inner: S) -> ConcurrencyLimit<S> {
        ConcurrencyLimit { inner, limits: self.0.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for ConcurrencyLimit<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<LimitedBody<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let Ok(slot) = self.limits.slots.clone().try_acquire_owned() else {
            self.limits.shed.inc();
            return Box::pin(async { Ok(refusal(Error::Overloaded.into())) });
        };
        let in_progress_guard = InProgress::new(&self.limits.in_progress);
        let unary = self.limits.unary.contains(request.uri().path());
        let asked = deadline::of(request.headers());
        let timeout = asked.unwrap_or(Duration::MAX).min(self.limits.timeout);
        if unary && asked != Some(timeout) && deadline::is_short(timeout) {
            // Handlers that work in batches then stop in time with a partial result.
            request.headers_mut().insert(TIMEOUT, stated(timeout));
        }
        let call = self.inner.call(request);
        Box::pin(async move {
            let Ok(result) = tokio::time::timeout(timeout, call).await else {
                return Ok(refusal(Status::deadline_exceeded("the call took too long")));
            };
            // A complete unary response needs no slot while a slow client reads it.
            let slot = Some(slot).filter(|_| !unary);
            Ok(result?.map(|body| LimitedBody {
                body: Some(body),
                _slot: slot,
                _in_progress: Some(in_progress_guard),
            }))
        })
    }
}

/// The header value: at most eight digits and a unit.
fn stated(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_millis().min(99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).expect("digits are ASCII")
}

/// A call in progress.
struct InProgress(Arc<AtomicUsize>);

impl InProgress {
    fn new(all: &Arc<AtomicUsize>) -> InProgress {
        all.fetch_add(1, Ordering::Relaxed);
        InProgress(all.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body that keeps the slot of a stream and the gauge until it is dropped; empty for a refused call.
pub struct LimitedBody<B> {
    body: Option<B>,
    _slot: Option<OwnedSemaphorePermit>,
    _in_progress: Option<InProgress>,
}

fn refusal<B>(status: Status) -> Response<LimitedBody<B>> {
    status.into_http::<()>().map(|()| LimitedBody { body: None, _slot: None, _in_progress: None })
}

impl<B: Body<Data = Bytes> + Unpin> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}
