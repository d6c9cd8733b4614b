//! The edge: accepts connections, identifies their peers, and bounds what each connection may cost. The service that
//! it serves handles the requests.

mod accept;
mod connection;
pub mod handshakes;
pub mod identity;
mod lingering;
mod meters;
mod pace;
mod prefaced;
pub mod slots;
pub mod tls;

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
use tower::Service;

use crate::config::edge::EdgeLimits;
use crate::metrics::Metrics;
use crate::supervise::Tasks;
use handshakes::Handshakes;
use meters::EdgeMeters;
use pace::Paces;
use slots::ConnectionSlots;
use tls::Certificates;

pub use accept::accept;

/// An error of a foreign crate.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

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
    /// the calls in progress. Each request carries its [`crate::model::caller::Peer`].
    pub async fn run<S, B>(
        self,
        metrics: &Metrics,
        supervised: &Tasks,
        service: S,
        within: Duration,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<AnyError> + Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<AnyError> + Send + Sync,
    {
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
            let slot = match slots.take(from.ip()) {
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
                if connection::serve(stream, from, &parts, service).await.is_err() {
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
