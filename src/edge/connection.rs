//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, AnswerBody, Answering, Patience};
use super::identity::{identify, valid_until};
use super::lingering::Lingering;
use super::meters::HandshakeFailure;
use super::prefaced::Prefaced;
use super::tls::Certificates;
use super::{EdgeParts, ServeCalls};
use crate::config::edge::EdgeLimits;
use crate::model::caller::Identity;
use crate::model::caller::connection::CallerConnection;

/// A connection whose handshake succeeded.
struct Begun {
    stream: Prefaced<Pin<Box<dyn ByteStream>>>,
    caller: Vouched,
}

/// The identity of a peer, from the handshake.
struct Vouched {
    identity: Identity,
    /// How long the client certificate is still valid; `None` without one.
    left: Option<Duration>,
    /// Cancelled when the authorities that the client certificate was verified against are replaced.
    withdrawn: CancellationToken,
}

trait ByteStream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> ByteStream for S {}

/// The connection was closed because its peer violated TLS or HTTP/2, or exceeded the handshake timeout.
pub(super) struct ConnectionBreach;

/// Serves `service` over `stream` until either side ends the connection.
///
/// # Errors
/// [`ConnectionBreach`] if the peer is at fault for the end.
pub(super) async fn serve<S: ServeCalls>(
    stream: TcpStream,
    connection: &Arc<CallerConnection>,
    parts: &EdgeParts,
    service: S,
) -> Result<(), ConnectionBreach> {
    let from = connection.address;
    let handshake = parts.handshakes.begin();
    let begun = tokio::select! {
        begun = begin(stream, parts) => begun,
        () = tokio::time::sleep(parts.limits.handshake_timeout) => Err(HandshakeFailure::Timeout),
        () = handshake.given_up() => Err(HandshakeFailure::GivenUp),
        () = connection.displaced.cancelled() => Err(HandshakeFailure::GivenUp),
        () = parts.drain.cancelled() => return Ok(()),
    };
    drop(handshake);
    let begun = match begun {
        Ok(begun) => begun,
        Err(failed) => {
            tracing::debug!(%from, ?failed, "a handshake came to nothing");
            parts.meters.failed(failed);
            return if failed.is_breach() { Err(ConnectionBreach) } else { Ok(()) };
        }
    };

    connection.identify(begun.caller.identity);
    let calls = CallsOf { service, connection: connection.clone() };
    let io = TokioIo::new(Lingering::new(begun.stream));
    let serving = builder(parts).serve_connection(io, calls);
    tokio::pin!(serving);
    let distrusted = distrusted(connection, begun.caller.left, &begun.caller.withdrawn);
    tokio::pin!(distrusted);
    let served = tokio::select! {
        served = &mut serving => Some(served),
        () = age(&parts.limits) => None,
        () = &mut distrusted => None,
        () = parts.drain.cancelled() => None,
        () = connection.displaced.cancelled() => return Ok(()),
        () = stuck(connection, parts) => return Ok(()),
    };
    let served = match served {
        Some(served) => served,
        None => {
            // No new calls. Calls in progress continue for the grace period, or until the drain ends.
            serving.as_mut().graceful_shutdown();
            let ends_streams = async {
                if !connection.distrusted.is_cancelled() {
                    distrusted.await;
                }
                std::future::pending().await
            };
            tokio::select! {
                served = &mut serving => served,
                () = grace(parts) => return Ok(()),
                () = stuck(connection, parts) => return Ok(()),
                () = ends_streams => return Ok(()),
            }
        }
    };
    served.or_else(|error| {
        tracing::debug!(%from, %error, "a connection ended by an error");
        if is_breach(&error) { Err(ConnectionBreach) } else { Ok(()) }
    })
}

/// Whether the connection ended by a GOAWAY with an error code, sent by either side, so that a peer cannot escape the
/// penalty by sending its own GOAWAY first. A network failure is no breach.
fn is_breach(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.reason() != Some(h2::Reason::NO_ERROR))
}

/// Classifies a failed handshake: `otherwise`, unless the peer left. Leaving is no breach: a client may reject the
/// server's certificate, and a health check may only open the port.
fn failed(error: &io::Error, otherwise: HandshakeFailure) -> HandshakeFailure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match (cause, error.kind()) {
        (Some(rustls::Error::AlertReceived(_)), _) => HandshakeFailure::Left,
        (_, io::ErrorKind::InvalidData) => otherwise,
        _ => HandshakeFailure::Left,
    }
}

async fn begin(stream: TcpStream, parts: &EdgeParts) -> Result<Begun, HandshakeFailure> {
    // hyper limits the wait for PING acknowledgements, but then sends GOAWAY before it closes. Without a write timeout
    // that would take forever for a peer that reads nothing.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(parts.limits.keepalive_timeout));
    let stream: Pin<Box<dyn ByteStream>> = Box::pin(stream);
    let (stream, caller) = match &parts.tls {
        Some(certificates) => secure(stream, certificates).await?,
        None => {
            let withdrawn = CancellationToken::new();
            (stream, Vouched { identity: Identity::Unknown, left: None, withdrawn })
        }
    };
    let stream =
        Prefaced::read(stream).await.map_err(|error| failed(&error, HandshakeFailure::Protocol))?;
    Ok(Begun { stream, caller })
}

async fn secure(
    stream: Pin<Box<dyn ByteStream>>,
    certificates: &Certificates,
) -> Result<(Pin<Box<dyn ByteStream>>, Vouched), HandshakeFailure> {
    let current = certificates.current();
    let stream = current.acceptor.accept(stream).await.map_err(|error| {
        tracing::debug!(%error, "TLS failed");
        failed(&error, HandshakeFailure::Tls)
    })?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let identity = shown.map_or(Identity::Unknown, identify);
    let left = shown.and_then(valid_until).map(|until| certificates.left(until));
    let withdrawn = match shown {
        Some(_) => current.withdrawn.clone(),
        None => CancellationToken::new(),
    };
    Ok((Box::pin(stream), Vouched { identity, left, withdrawn }))
}

fn builder(parts: &EdgeParts) -> http2::Builder<CallTasks> {
    let limits = &parts.limits;
    let patience = Patience { most: limits.answer_timeout, unread: parts.meters.unread.clone() };
    let (tracker, patience) = (parts.calls.clone(), Arc::new(patience));
    let mut builder = http2::Builder::new(CallTasks { tracker, patience });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_pending_accept_reset_streams(usize::try_from(limits.max_pending_resets).ok())
        .max_local_error_reset_streams(usize::try_from(limits.max_error_resets).ok())
        .max_frame_size(limits.max_frame_size.saturating_mul(1_024))
        .max_header_list_size(limits.max_header_list_size.saturating_mul(1_024))
        // For servers, hyper sends keepalive PINGs on idle connections too.
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    builder
}

/// Completes when the connection has reached its maximum age.
async fn age(limits: &EdgeLimits) {
    match limits.connection_age {
        Duration::ZERO => std::future::pending().await,
        age => tokio::time::sleep(jittered(age)).await,
    }
}

/// Completes when the client certificate expires after `left`, or its authority is not trusted any more. The streams of
/// the connection end then.
async fn distrusted(
    connection: &CallerConnection,
    left: Option<Duration>,
    withdrawn: &CancellationToken,
) {
    let expired = async {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = expired => {}
        () = withdrawn.cancelled() => {}
    }
    connection.distrusted.cancel();
}

/// Completes when an answer that was handed to the connection stays unread. Longer than the patience with a stream,
/// which is reset alone where that can be done.
async fn stuck(connection: &CallerConnection, parts: &EdgeParts) {
    loop {
        tokio::time::sleep(parts.limits.answer_timeout.mul_f64(1.5)).await;
        if connection.is_stuck() {
            parts.meters.unread.inc();
            return;
        }
    }
}

/// Nine to eleven tenths of `age`, so that connections that began together do not end together.
fn jittered(age: Duration) -> Duration {
    let mut random = [0; 2];
    aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
    age.mul_f64(0.9 + 0.2 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}

/// Completes after the grace period for calls in progress on a connection that takes no new ones. Never completes once
/// the server drains, since the drain has a timeout of its own.
async fn grace(parts: &EdgeParts) {
    tokio::select! {
        () = tokio::time::sleep(parts.limits.connection_grace), if !parts.drain.is_cancelled() => {}
        () = parts.drain.cancelled() => std::future::pending().await,
    }
}

/// Runs calls as tasks of the tracker, so that the drain can wait for them.
#[derive(Clone)]
struct CallTasks {
    tracker: TaskTracker,
    patience: Arc<Patience>,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for CallTasks {
    fn execute(&self, call: F) {
        self.tracker.spawn(Answering::new(call, self.patience.clone()));
    }
}

/// The calls of one connection.
struct CallsOf<S> {
    service: S,
    connection: Arc<CallerConnection>,
}

impl<S: ServeCalls> hyper::service::Service<Request<Incoming>> for CallsOf<S> {
    type Response = Response<AnswerBody<S::Body>>;
    type Error = Infallible;
    type Future = MapOk<S::Call, fn(Response<S::Body>) -> Self::Response>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.service.call(&self.connection, request).map_ok(answer::begin)
    }
}
