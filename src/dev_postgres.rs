//! A private Postgres server for development and tests.
//!
//! Owns one data home (see [`DevPostgresOptions::data_dir`]) and the one server that runs in it: finds or
//! installs the binaries, creates the cluster, keeps the server up, stops it. The server listens
//! on a Unix socket only, in a directory that nobody but the user it runs as (and root) can enter.
//!
//! Must not touch any other Postgres on the machine, nor anything outside the data home, the
//! binaries cache and, for a data home too deep for a socket, one socket directory under the temp
//! directory.
//!
//! | in the data home | what it is                                             |
//! |------------------|--------------------------------------------------------|
//! | `lock`           | flocked for as long as a process uses the data home    |
//! | `postgres/`      | the cluster; `data.tmp/` while it is being made        |
//! | `run/`           | the socket directory                                   |
//! | `postgres.log`   | the server's log; emptied at a start beyond 10 MB      |

mod binaries;
mod cluster;
mod home;
mod identity;
mod install;
mod ready;
mod server;
mod stale;
mod supervise;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::binaries::Binaries;
use self::home::{Lock, SocketDir};
use self::identity::ProcessIdentity;
use self::ready::ReadyAnswer;
use self::server::PostgresServer;
use self::supervise::Supervisor;

/// How long a server may take to accept connections or report that it recovers, restarts included.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long a server that reports recovery may take to replay its log.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(20);

/// The superuser, and the database made with the cluster.
const NAME: &str = "sessiond";

/// Where the server keeps its data and how it runs.
#[derive(Debug, Clone)]
pub struct DevPostgresOptions {
    /// The data home; made if missing. One process uses it at a time.
    pub data_dir: PathBuf,
    /// The directory of the Postgres programs (`SESSIOND_PG_BIN`); searched for when `None`.
    pub pg_bin: Option<PathBuf>,
    /// Whether a commit survives a crash of the machine. Off only in tests.
    pub fsync: bool,
    /// The most connections of all databases; [`MAX_CONNECTIONS`] unless a test needs more.
    pub max_connections: u16,
}

/// The most connections to the private Postgres.
pub const MAX_CONNECTIONS: u16 = 100;

/// The data home when none is asked for: `/var/lib/sessiond` for root, whose own home the server's
/// user cannot enter, and `sessiond` in the XDG data directory for everyone else.
pub fn default_data_dir() -> PathBuf {
    home::user_dir("/var/lib/sessiond", "XDG_DATA_HOME", ".local/share")
}

/// The URL of the `sessiond` database on the server that another process runs in this data home, once it accepts
/// connections; `None` if no process uses the data home. The server stops with that process. Blocks.
///
/// # Errors
///
/// If the server does not come up, or the data home cannot be accessed.
pub fn running(data_dir: &Path) -> Result<Option<String>> {
    let Ok(home) = data_dir.canonicalize() else { return Ok(None) };
    if !Lock::is_taken(&home)? {
        return Ok(None);
    }
    let dir = SocketDir::of(&home)?;
    wait_until_ready(&home::socket_in(&dir), &home)?;
    Ok(Some(url(&dir, NAME)))
}

/// A running server. Dropping it stops the server: SIGINT, after 10 s SIGQUIT, after 20 s SIGKILL.
///
/// A server that dies is started again, after 100 ms at first and up to 5 s if it keeps dying.
/// It stops with this process, however that ends: at once on Linux, and elsewhere when the next process starts on the
/// same data home.
#[derive(Debug)]
pub struct DevPostgres {
    // Fields drop in this order: the server stops before its socket directory and lock go.
    supervisor: Supervisor,
    socket_dir: SocketDir,
    binaries: Binaries,
    home: PathBuf,
    _lock: Lock,
}

impl DevPostgres {
    /// Starts the server and returns once it accepts connections. Creates the cluster and installs Postgres if missing.
    /// Blocks: well under a second for an existing cluster, a few seconds to create one.
    ///
    /// # Errors
    ///
    /// If there is no Postgres to run, the data home is in use, inaccessible to the server's user or made by another
    /// major version, or the server does not come up. The text says what to do.
    pub fn start(options: DevPostgresOptions) -> Result<DevPostgres> {
        let identity = ProcessIdentity::choose()?;
        let home = home::prepare(&options.data_dir, &identity)?;
        let lock = Lock::take(&home)?;
        let made_by = cluster::major(&home)?;
        let binaries = Binaries::find_or_install(options.pg_bin.as_deref(), made_by, &identity)?;
        match made_by {
            Some(_) => cluster::take_over(&home, &identity)?,
            None => cluster::create(&home, &binaries, &identity, options.fsync)?,
        }
        let socket_dir = SocketDir::prepare(&home, &identity)?;
        let server = PostgresServer {
            program: binaries.program("postgres"),
            data: cluster::data_dir(&home),
            socket_dir: socket_dir.path().to_owned(),
            log: home.join(server::LOG),
            fsync: options.fsync,
            max_connections: options.max_connections,
            identity,
        };
        let supervisor = Supervisor::start(server)?;
        let postgres = DevPostgres { supervisor, socket_dir, binaries, home, _lock: lock };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    /// The connection URL of a database; the one made with the cluster is called `sessiond`.
    pub fn url(&self, database: &str) -> String {
        url(self.socket_dir.path(), database)
    }

    /// A shell line that opens `psql` on the `sessiond` database.
    pub fn psql_line(&self) -> String {
        let beside = self.binaries.program("psql");
        let psql = if beside.is_file() { beside } else { PathBuf::from("psql") };
        format!("{} {}", shell_word(&psql.to_string_lossy()), shell_word(&self.url(NAME)))
    }

    /// The directory of the Postgres programs in use. May lack `psql`.
    pub fn bin_dir(&self) -> &Path {
        self.binaries.dir()
    }

    /// The data home, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.home
    }

    /// The process id of the server, or `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.supervisor.pid()
    }

    /// Stops the server as a drop does, until [`resume`](Self::resume). Blocks.
    pub fn halt(&self) {
        self.supervisor.halt();
    }

    /// Starts a halted server again and returns once it accepts connections. Blocks.
    ///
    /// # Errors
    ///
    /// If it does not come up within 30 s; starting it is retried in the background all the same.
    pub fn resume(&self) -> Result<()> {
        self.supervisor.resume();
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> Result<()> {
        wait_until_ready(&self.socket_dir.socket(), &self.home)
    }
}

fn wait_until_ready(socket: &Path, home: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (patience, answer) = match ready::ask(socket, NAME) {
            ReadyAnswer::Ready => return Ok(()),
            ReadyAnswer::Starting(why) => (RECOVERY_PATIENCE, why),
            ReadyAnswer::Not(why) => (START_PATIENCE, why),
        };
        if begun.elapsed() > patience {
            let log = home.join(server::LOG);
            let said = server::last_lines(&log).unwrap_or_default();
            bail!("Postgres does not come up ({answer}). {} ends with:\n{said}", log.display());
        }
        std::thread::sleep(POLL);
    }
}

fn url(socket_dir: &Path, database: &str) -> String {
    let host = percent_encode(socket_dir.as_os_str().as_encoded_bytes());
    let database = percent_encode(database.as_bytes());
    format!("postgresql:///{database}?host={host}&user={NAME}")
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn percent_encode(bytes: &[u8]) -> String {
    let encode = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

fn shell_word(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
