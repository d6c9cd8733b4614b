//! The HTTP port for operators: metrics, health and keys, without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::edge::accept;
use crate::edge::slots::ConnectionSlots;
use crate::metrics::Metrics;
use crate::supervise::Tasks;
use crate::token::jwk::jwks;
use crate::token::keys::KeyCache;

/// How long clients may cache the key set: shorter than a new key is published before it signs (`--key-publish-ahead`).
const KEYS_FOR: &str = "public, max-age=300";

/// The most concurrent connections; one more is closed.
const MOST: u32 = 256;
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes and in header lines.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// The longest life of a connection, and how long its last response may then take.
const AGE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(2);

/// The HTTP port, bound.
pub struct Http {
    listener: TcpListener,
    metrics: Metrics,
    keys: KeyCache,
    clock: Clock,
}

#[derive(Clone)]
struct HttpParts {
    metrics: Metrics,
    keys: KeyCache,
    clock: Clock,
    up: watch::Receiver<bool>,
    down: watch::Receiver<usize>,
    drain: CancellationToken,
}

impl Http {
    /// Binds the port. It shows the keys that are published at the time of `clock`.
    ///
    /// # Errors
    /// If the address cannot be bound; the text names the flag.
    pub async fn bind(
        addr: SocketAddr,
        metrics: Metrics,
        keys: KeyCache,
        clock: Clock,
    ) -> anyhow::Result<Http> {
        let listener = TcpListener::bind(addr)
            .await
            .with_context(|| format!("--http-listen {addr} (off = none)"))?;
        Ok(Http { listener, metrics, keys, clock })
    }

    /// The local address, with the actual port if port 0 was requested.
    ///
    /// # Errors
    /// If the operating system cannot report the address.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`. `/readyz` fails after `drain`, while `up` is false, or while a needed task is down.
    pub async fn run(
        self,
        up: watch::Receiver<bool>,
        tasks: Tasks,
        drain: CancellationToken,
        stop: CancellationToken,
    ) {
        let (metrics, keys, clock) = (self.metrics, self.keys, self.clock);
        let parts = HttpParts { metrics, keys, clock, up, down: tasks.down(), drain };
        let routes = Router::new()
            .route("/metrics", get(scrape))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/.well-known/jwks.json", get(key_set))
            .with_state(parts);
        let slots = ConnectionSlots::new(MOST, MOST);
        let mut connections = JoinSet::new();
        let serve = |stream: TcpStream, from: SocketAddr| {
            let slot = slots.take(from).ok()?;
            // Operators have no credentials here, so none gives way to another.
            slot.connection.begin_call();
            let (routes, stop) = (routes.clone(), stop.clone());
            Some(async move {
                connection(stream, routes, stop).await;
                drop(slot);
            })
        };
        accept((&tasks, "accept_http"), self.listener, &stop, &mut connections, serve).await;
        let ended = async { while connections.join_next().await.is_some() {} };
        // Only operators' requests such as scrapes are cut off here.
        let _ = tokio::time::timeout(GRACE, ended).await;
    }
}

/// Serves one connection, for at most [`AGE`] and [`GRACE`].
async fn connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Also the idle timeout between requests.
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        // A connection error concerns only the peer.
        _ = &mut connection => return,
        () = tokio::time::sleep(AGE) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}

async fn scrape(State(parts): State<HttpParts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], parts.metrics.render())
}

async fn ready(State(parts): State<HttpParts>) -> (StatusCode, &'static str) {
    if parts.drain.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if !*parts.up.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
    } else if *parts.down.borrow() > 0 {
        (StatusCode::SERVICE_UNAVAILABLE, "a task of the server failed and is started again\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn key_set(State(parts): State<HttpParts>, asked: HeaderMap) -> Response {
    let keyring = match parts.keys.get().await {
        Ok(keyring) => keyring,
        Err(error) => {
            tracing::warn!(%error, "the keys cannot be told");
            let again = [(header::RETRY_AFTER, "1"), (header::CACHE_CONTROL, "no-store")];
            return (StatusCode::SERVICE_UNAVAILABLE, again, "the keys cannot be told now\n")
                .into_response();
        }
    };
    let jwks = jwks(&keyring.published(parts.clock.now()));
    let etag = format!("\"{}\"", tag(&jwks));
    let kept = [(header::CACHE_CONTROL, KEYS_FOR), (header::ETAG, &etag)];
    if asked.get(header::IF_NONE_MATCH).is_some_and(|tags| matches(tags.as_bytes(), &etag)) {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    let form = [(header::CONTENT_TYPE, "application/jwk-set+json")];
    (kept, form, jwks).into_response()
}

/// Whether `If-None-Match` names the tag (RFC 9110, section 13.1.2): in a list, weak or not, or as `*`.
fn matches(tags: &[u8], etag: &str) -> bool {
    let tags = String::from_utf8_lossy(tags);
    let mut tags = tags.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn tag(text: &str) -> String {
    use base64::Engine;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12])
}
