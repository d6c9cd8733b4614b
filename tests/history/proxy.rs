//! The way from one replica to Postgres: a TCP proxy that can go wrong in each direction by itself.

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

/// What becomes of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Pass,
    /// They arrive some milliseconds late.
    Late(u64),
    /// They never arrive. A connection that lost some stays silent.
    Hole,
    /// The receiver sees the end of the stream; the other direction goes on.
    Closed,
}

/// What becomes of all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// From the replica to Postgres.
    pub up: Way,
    pub down: Way,
    /// Connections end, and new ones too.
    pub cut: bool,
    /// What Postgres answers to a COMMIT is lost, and the connection with it.
    pub loses_commits: bool,
    /// Concerns only connections that listen for notifications.
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
    /// In front of the Postgres whose socket this is, for as long as the runtime lives.
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
    // Nothing waits for more to send: that is for the faults to do.
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
                // The peer may be gone already.
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
