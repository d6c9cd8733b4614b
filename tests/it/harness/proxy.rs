//! A proxy between the server and Postgres that can inject faults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const SOCKET: &str = ".s.PGSQL.5432";

/// What the proxy does with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Postgres commits, but the connection closes before the server gets the answer.
    CutCommits,
    /// Postgres commits, but the server gets no further bytes on that connection.
    MuteCommits,
    /// No bytes pass in either direction. A connection that lost bytes stays silent.
    BlackHole,
    /// The answers of Postgres are delayed by some milliseconds.
    Slow,
    /// As `BlackHole`, but only for connections made before.
    MuteOld,
    /// As `BlackHole`, but only for connections that LISTEN.
    MuteListeners,
    /// Closes the connections that LISTEN.
    CutListeners,
    /// Delays the answers of Postgres except on connections that LISTEN, so that revocations overtake reads.
    LateReads,
    /// Holds the answers of Postgres about the user [`HELD`] until the mode changes.
    HoldReads,
}

/// The user of [`Mode::HoldReads`].
pub const HELD: &str = "held-back";

const LATE: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a revocation takes to arrive.
const VERY_LATE: Duration = Duration::from_millis(30);

/// Listens in a directory of its own. Dropping it closes all connections.
pub struct Proxy {
    /// The database's URL through this proxy.
    pub url: String,
    mode: watch::Sender<Mode>,
    held: watch::Sender<usize>,
    real: watch::Sender<PathBuf>,
    accepting: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Proxy {
    /// In front of the database at `url`, whose host is the directory of its socket.
    pub fn before(url: &str) -> Proxy {
        let config: tokio_postgres::Config = url.parse().expect("a URL");
        let real = watch::Sender::new(socket(&config));
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join(SOCKET)).expect("a socket");
        let name = config.get_dbname().expect("a database");
        let user = config.get_user().expect("a user");
        let host = escaped(dir.path());
        let url = format!("postgresql:///{name}?host={host}&user={user}");
        let mode = watch::Sender::new(Mode::Pass);
        let held = watch::Sender::new(0);
        let way = (mode.subscribe(), held.clone());
        let accepting = tokio::spawn(accept(listener, real.subscribe(), way));
        Proxy { url, mode, held, real, accepting, _dir: dir }
    }

    /// Applies from the next bytes.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Leads new connections to the server at `url`; existing ones stay.
    pub fn redirect(&self, url: &str) {
        self.real.send_replace(socket(&url.parse().expect("a URL")));
    }

    /// Waits until this number of answers was held in total.
    pub async fn until_held(&self, answers: usize) {
        let mut held = self.held.subscribe();
        let enough = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held >= answers)).await;
        enough.expect("they are held back, within a minute").expect("this proxy is there");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The socket of a database whose host is a directory.
fn socket(config: &tokio_postgres::Config) -> PathBuf {
    match config.get_hosts() {
        [tokio_postgres::config::Host::Unix(dir)] => dir.join(SOCKET),
        hosts => panic!("not one socket directory: {hosts:?}"),
    }
}

fn escaped(path: &Path) -> String {
    path.to_str().expect("a plain path").replace('/', "%2F")
}

/// The mode, and the number of held answers.
type Way = (watch::Receiver<Mode>, watch::Sender<usize>);

async fn accept(listener: UnixListener, real: watch::Receiver<PathBuf>, way: Way) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let real = real.borrow().clone();
        if let Ok(server) = UnixStream::connect(&real).await {
            connections.spawn(carry(client, server, way.clone()));
        }
    }
}

/// The state of a connection that matters to its faults.
#[derive(Default)]
struct Line {
    /// The server has sent the COMMIT whose answer gets lost.
    committing: bool,
    /// The connection has sent a LISTEN.
    listening: bool,
    mute: bool,
}

/// Serves one connection, until either side closes it.
async fn carry(client: UnixStream, server: UnixStream, (mut mode, held): Way) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut line = Line::default();
    let is_old = *mode.borrow() != Mode::MuteOld;
    let (mut up, mut down) = (vec![0; 16_384], vec![0; 16_384]);
    loop {
        let (bytes, is_up) = tokio::select! {
            read = from_client.read(&mut up) => (take(&up, read), true),
            read = from_server.read(&mut down) => (take(&down, read), false),
        };
        let Some(bytes) = bytes else { break };
        let now = *mode.borrow();
        line.listening |= is_up && bytes.windows(6).any(|part| part == b"LISTEN");
        line.mute |= now == Mode::MuteOld && is_old;
        line.mute |= now == Mode::BlackHole || (now == Mode::MuteListeners && line.listening);
        if now == Mode::CutListeners && line.listening {
            break;
        }
        let loses = matches!(now, Mode::CutCommits | Mode::MuteCommits);
        line.committing |= is_up && loses && bytes.windows(6).any(|part| part == b"COMMIT");
        if line.mute {
            continue;
        }
        if line.committing && !is_up {
            // Postgres answers a COMMIT once it is done.
            if now == Mode::CutCommits {
                break;
            }
            line.mute = true;
            continue;
        }
        let of_held = bytes.windows(HELD.len()).any(|part| part == HELD.as_bytes());
        if now == Mode::HoldReads && !is_up && of_held {
            held.send_modify(|held| *held += 1);
            if mode.wait_for(|mode| *mode != Mode::HoldReads).await.is_err() {
                break;
            }
        }
        let late = match now {
            Mode::Slow if !is_up => Some(LATE),
            Mode::LateReads if !is_up && !line.listening => Some(VERY_LATE),
            _ => None,
        };
        if let Some(late) = late {
            tokio::time::interval_at(tokio::time::Instant::now() + late, late).tick().await;
        }
        if forward(bytes, is_up, &mut to_server, &mut to_client).await.is_err() {
            break;
        }
    }
}

fn take(buffer: &[u8], read: std::io::Result<usize>) -> Option<&[u8]> {
    read.ok().filter(|length| *length > 0).map(|length| &buffer[..length])
}

async fn forward(
    bytes: &[u8],
    is_up: bool,
    to_server: &mut OwnedWriteHalf,
    to_client: &mut OwnedWriteHalf,
) -> std::io::Result<()> {
    match is_up {
        true => to_server.write_all(bytes).await,
        false => to_client.write_all(bytes).await,
    }
}
