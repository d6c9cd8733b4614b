//! The accept loop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::supervise::{TaskNeed, Tasks};

/// Backoff after a failed accept: the first pause and the longest. It doubles with each failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Accepts connections until `stop`, supervised as `name`, then closes the port. The future that `serve` returns for a
/// connection runs as a task of `connections`; with `None` the connection is closed at once.
pub async fn accept<F>(
    (tasks, name): (&Tasks, &'static str),
    listener: TcpListener,
    stop: &CancellationToken,
    connections: &mut JoinSet<()>,
    serve: impl Fn(TcpStream, SocketAddr) -> Option<F> + Sync,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // Open connections survive a restart of the loop.
    let (connections, listener, serve) = (Mutex::new(connections), &listener, &serve);
    let taking = async || {
        let mut connections = connections.lock().await;
        take(listener, stop, &mut connections, serve).await;
    };
    tasks.keep((name, TaskNeed::Serving), stop, taking).await;
}

async fn take<F>(
    listener: &TcpListener,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
    serve: impl Fn(TcpStream, SocketAddr) -> Option<F>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut pause = PAUSE.0;
    loop {
        let taken = tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a connection ended in a panic");
                }
                continue;
            }
            taken = listener.accept() => taken,
        };
        match taken {
            Ok((stream, from)) => {
                pause = PAUSE.0;
                // Nagle's algorithm would hold a response until the peer acknowledges the previous one.
                let _ = stream.set_nodelay(true);
                if let Some(task) = serve(stream, from) {
                    tasks.spawn(task);
                }
            }
            Err(error) if is_of_the_connection(&error) => {}
            // Such as no file descriptor left: without a pause the loop would spin.
            Err(error) => {
                tracing::error!(%error, ?pause, "cannot accept connections");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Whether the error concerns only the connection that was to be accepted (accept(2)), not the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
