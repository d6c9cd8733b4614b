//! The edge: accepts connections, identifies their peers, and bounds what each connection may cost. The service that
//! it serves handles the requests.

mod accept;
mod answer;
mod connection;
pub mod handshakes;
pub mod identity;
mod lingering;
mod meters;
mod pace;
mod prefaced;
pub mod slots;
pub mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::edge::EdgeLimits;
use crate::metrics::Metrics;
use crate::model::caller::connection::CallerConnection;
use crate::supervise::Tasks;
use handshakes::Handshakes;
use meters::EdgeMeters;
use pace::Paces;
use slots::ConnectionSlots;
use tls::Certificates;

pub use accept::accept;

/// The body of a request, as it arrives.
pub type RequestBody = Incoming;

/// An error of a foreign crate.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What answers the calls of all connections. Cheap to clone.
pub trait ServeCalls: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<AnyError> + Send + Sync> + Send + Unpin + 'static;
    /// A call in progress.
    type Call: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    /// Begins a call that came over `connection`.
    fn call(&self, connection: &Arc<CallerConnection>, request: Request<Incoming>) -> Self::Call;
}

/// The gRPC port.
pub struct Edge {
    listener: TcpListener,
    parts: Arc<EdgeParts>,
}

/// The state that all connections share.
struct EdgeParts {
    limits: EdgeLimits,
    tls: Option<Arc<Certificates>>,
    handshakes: Handshakes,
    meters: EdgeMeters,
    /// Cancelled when the server stops.
    drain: CancellationToken,
    /// The tasks of calls in progress.
    calls: TaskTracker,
}

impl Edge {
    /// Serves connections that `listener` accepts, over TLS if there are certificates, until `drain` is cancelled.
    pub fn new(
        listener: TcpListener,
        limits: EdgeLimits,
        tls: Option<Arc<Certificates>>,
        metrics: &Metrics,
        drain: CancellationToken,
    ) -> Edge {
        let handshakes = Handshakes::new(limits.max_handshakes);
        let (meters, calls) = (EdgeMeters::new(metrics), TaskTracker::new());
        Edge {
            listener,
            parts: Arc::new(EdgeParts { limits, tls, handshakes, meters, drain, calls }),
        }
    }

    /// The local address of the listener.
    ///
    /// # Errors
    /// If the operating system cannot report the address.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `drain`, then closes the port, shuts down every connection gracefully, and waits up to `within` for
    /// the calls in progress.
    pub async fn run<S: ServeCalls>(
        self,
        metrics: &Metrics,
        supervised: &Tasks,
        service: S,
        within: Duration,
    ) {
        let Edge { listener, parts } = self;
        let slots = ConnectionSlots::new(
            parts.limits.max_connections,
            parts.limits.max_connections_per_peer,
        );
        // The burst lets a peer reopen all of its connections at once, such as when another replica stops.
        let rate = parts.limits.max_connection_rate_per_peer;
        let paces = Arc::new(Paces::new(rate, parts.limits.max_connections_per_peer));
        let counted = slots.clone();
        let help = "Connections of the gRPC port.";
        metrics.sampled("connections", help, move || counted.taken() as f64);
        let mut tasks = JoinSet::new();
        let serve = |stream: TcpStream, from: SocketAddr| {
            let slot = match slots.take(from) {
                Ok(slot) => slot,
                Err(full) => {
                    parts.meters.refused(full);
                    return None;
                }
            };
            if !paces.admit(slot.peer, Instant::now()) {
                parts.meters.paced();
                return None;
            }
            let (parts, paces, service) = (parts.clone(), paces.clone(), service.clone());
            Some(async move {
                if connection::serve(stream, &slot.connection, &parts, service).await.is_err() {
                    paces.breach(slot.peer, Instant::now());
                    parts.meters.breached();
                }
                drop(slot);
            })
        };
        accept((supervised, "accept"), listener, &parts.drain, &mut tasks, serve).await;
        parts.calls.close();
        let ending = async {
            while tasks.join_next().await.is_some() {}
            parts.calls.wait().await;
        };
        if tokio::time::timeout(within, ending).await.is_err() {
            tracing::warn!("calls still in progress are cut off");
            tasks.shutdown().await;
        }
    }
}
