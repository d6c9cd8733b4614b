//! A TCP proxy between one replica and Postgres that can fail in each direction separately.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pause;

/// What the proxy does with the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Pass,
    /// They are delayed by some milliseconds.
    Late(u64),
    /// They are dropped. A connection that lost bytes stays silent.
    Hole,
    /// The receiver gets the end of the stream; the other direction goes on.
    Closed,
}

/// What the proxy does with all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// From the replica to Postgres.
    pub up: Way,
    pub down: Way,
    /// Connections are closed, and new ones too.
    pub cut: bool,
    /// The answer of Postgres to a COMMIT is dropped, and the connection closed.
    pub loses_commits: bool,
    /// Affects only connections that LISTEN.
    pub listeners_only: bool,
}

pub const FAIR: Weather = Weather {
    up: Way::Pass,
    down: Way::Pass,
    cut: false,
    loses_commits: false,
    listeners_only: false,
};

pub struct Proxy {
    pub addr: SocketAddr,
    weather: watch::Sender<Weather>,
}

/// One connection.
#[derive(Clone)]
struct Line {
    weather: watch::Receiver<Weather>,
    over: CancellationToken,
    listens: Arc<AtomicBool>,
    committing: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy for the Postgres with this socket. It lives as long as the runtime.
    pub async fn before(socket: PathBuf) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound port");
        let weather = watch::Sender::new(FAIR);
        tokio::spawn(accept(listener, socket, weather.subscribe()));
        Proxy { addr, weather }
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, weather: watch::Receiver<Weather>) {
    let mut lines = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while lines.try_join_next().is_some() {}
        let Ok(server) = UnixStream::connect(&socket).await else { continue };
        let line = Line {
            weather: weather.clone(),
            over: CancellationToken::new(),
            listens: Arc::default(),
            committing: Arc::default(),
        };
        lines.spawn(carry(client, server, line));
    }
}

async fn carry(client: TcpStream, server: UnixStream, line: Line) {
    // The proxy adds no delay of its own.
    let _ = client.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = line.clone().direction(from_client, to_server, true);
    let down = line.direction(from_server, to_client, false);
    tokio::join!(up, down);
}

impl Line {
    /// Carries one direction until it ends.
    async fn direction(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        is_up: bool,
    ) {
        let mut bytes = vec![0; 16_384];
        let mut silent = false;
        loop {
            let now = *self.weather.borrow_and_update();
            let concerned = !now.listeners_only || self.listens.load(Ordering::SeqCst);
            let way = match (concerned, is_up) {
                (false, _) => Way::Pass,
                (true, true) => now.up,
                (true, false) => now.down,
            };
            if concerned && now.cut {
                break;
            }
            if way == Way::Closed {
                // The peer may have closed already.
                let _ = to.shutdown().await;
                silent = true;
            }
            silent |= way == Way::Hole;
            let read = tokio::select! {
                read = from.read(&mut bytes) => read,
                changed = self.weather.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                () = self.over.cancelled() => break,
            };
            let Some(read) = read.ok().filter(|length| *length > 0) else { break };
            let read = &bytes[..read];
            if is_up {
                self.look(read, concerned && now.loses_commits);
            } else if self.committing.load(Ordering::SeqCst) {
                // Postgres answers a COMMIT once it is done.
                break;
            }
            if let Way::Late(millis) = way {
                pause(Duration::from_millis(millis)).await;
            }
            if !silent && to.write_all(read).await.is_err() {
                break;
            }
        }
        self.over.cancel();
    }

    fn look(&self, sent: &[u8], loses_commits: bool) {
        let says = |word: &[u8]| sent.windows(word.len()).any(|part| part == word);
        if says(b"LISTEN") {
            self.listens.store(true, Ordering::SeqCst);
        }
        if loses_commits && says(b"COMMIT") {
            self.committing.store(true, Ordering::SeqCst);
        }
    }
}
