//! The loop that takes connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::supervise::{TaskNeed, Tasks};

/// How long it waits after the first refusal of the system, and at most; doubled each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Takes connections until `stop`, supervised as `name`, then closes the port. What `serve` makes of one runs as one of
/// `connections`; nothing = it is closed at once.
pub async fn accept<F>(
    (tasks, name): (&Tasks, &'static str),
    listener: TcpListener,
    stop: &CancellationToken,
    connections: &mut JoinSet<()>,
    serve: impl Fn(TcpStream, SocketAddr) -> Option<F> + Sync,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // Those that are open outlive a failure of the loop.
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
                // An answer must not wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                if let Some(task) = serve(stream, from) {
                    tasks.spawn(task);
                }
            }
            Err(error) if is_of_the_connection(&error) => {}
            // Such as no descriptor left: asked again at once it would say the same, on and on.
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

/// Whether only the connection that was about to be accepted failed (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
