//! One connection, from its first byte to its end.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use super::identity::{identify, valid_until};
use super::lingering::Lingering;
use super::meters::HandshakeFailure;
use super::prefaced::Prefaced;
use super::tls::Certificates;
use super::{AnyError, EdgeParts};
use crate::config::edge::EdgeLimits;
use crate::model::caller::{Identity, Peer};

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
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    from: SocketAddr,
    parts: &EdgeParts,
    service: S,
) -> Result<(), ConnectionBreach>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<AnyError> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<AnyError> + Send + Sync,
{
    let handshake = parts.handshakes.begin();
    let begun = tokio::select! {
        begun = begin(stream, parts) => begun,
        () = tokio::time::sleep(parts.limits.handshake_timeout) => Err(HandshakeFailure::Timeout),
        () = handshake.given_up() => Err(HandshakeFailure::GivenUp),
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

    let peer = Peer { address: from, identity: begun.caller.identity };
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request
    });
    let io = TokioIo::new(Lingering::new(begun.stream));
    let connection = builder(&parts.limits, &parts.calls)
        .serve_connection(io, TowerToHyperService::new(service));
    tokio::pin!(connection);
    let age = age(&parts.limits, begun.caller.left);
    let served = tokio::select! {
        served = &mut connection => Some(served),
        () = age => None,
        () = begun.caller.withdrawn.cancelled() => None,
        () = parts.drain.cancelled() => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            // No new calls. Calls in progress continue for the grace period, or until the drain ends.
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = &mut connection => served,
                () = grace(parts) => return Ok(()),
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

fn builder(limits: &EdgeLimits, calls: &TaskTracker) -> http2::Builder<CallGauge> {
    let mut builder = http2::Builder::new(CallGauge(calls.clone()));
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

/// Completes when the connection has reached its maximum age, or when the client certificate expires.
async fn age(limits: &EdgeLimits, certificate: Option<Duration>) {
    let age = Some(limits.connection_age).filter(|age| !age.is_zero()).map(jittered);
    match age.into_iter().chain(certificate).min() {
        Some(age) => tokio::time::sleep(age).await,
        None => std::future::pending().await,
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
struct CallGauge(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for CallGauge {
    fn execute(&self, call: F) {
        self.0.spawn(call);
    }
}
