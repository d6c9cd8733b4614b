//! The replicas and their Postgres.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::token::seal::MasterKey;
use tempfile::TempDir;
use tonic::transport::Channel;

/// Seals the keys of all replicas.
static MASTER_KEY: LazyLock<String> = LazyLock::new(MasterKey::generate);

/// A private Postgres. Dropping it stops it and removes its data.
pub struct Database {
    pub postgres: DevPostgres,
    // After the server that works in it.
    pub dir: TempDir,
}

impl Database {
    pub fn start() -> anyhow::Result<Database> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new().prefix("sessiond-bench-").tempdir()?;
        // Postgres run by root drops to another user, who must be able to enter.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let data_dir = dir.path().join("home");
        // Without fsync: what is measured is not the disk.
        let postgres = DevPostgres::start(DevPostgresOptions {
            data_dir,
            pg_bin: None,
            fsync: false,
            max_connections: MAX_CONNECTIONS,
        })?;
        Ok(Database { postgres, dir })
    }

    pub fn url(&self) -> String {
        self.postgres.url("sessiond")
    }
}

/// A server. Dropping it kills it.
pub struct Replica {
    child: Child,
    /// Kept open: the server may still print.
    _stdout: BufReader<ChildStdout>,
    channel: Channel,
}

/// The library that shows a process another time, where Debian puts it.
pub fn faketime() -> Option<&'static str> {
    [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    ]
    .into_iter()
    .find(|library| Path::new(library).exists())
}

impl Replica {
    /// Starts one; with a library of `faketime`, on a machine whose wall clock is an hour ahead.
    pub async fn start(
        dir: &Path,
        number: usize,
        url: &str,
        skew: Option<&str>,
    ) -> anyhow::Result<Replica> {
        let log = dir.join(format!("server-{number}.log"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            // Longer than a phase: the tokens of sessions that live must not end.
            .args(["--listen", "127.0.0.1:0", "--http-listen", "off"])
            .args(["--idle-timeout", "24h", "--access-token-ttl", "24h", "--data-dir"])
            .arg(dir.join(format!("server-{number}")))
            .env("DATABASE_URL", url)
            .env("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())
            .envs(skew.map(|library| ("LD_PRELOAD", library)))
            // The wall clock alone: no machine's monotonic clock jumps.
            .envs(
                skew.map(|_| [("FAKETIME", "+1h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")])
                    .into_iter()
                    .flatten(),
            )
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start the server")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let addr = line.trim().strip_prefix("sessiond listens on ").with_context(|| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!("the server does not start: {said}")
        })?;
        let channel =
            Channel::from_shared(format!("http://{addr}"))?.tcp_nodelay(true).connect().await?;
        Ok(Replica { child, _stdout: stdout, channel })
    }

    pub fn client(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        Ok(kill_process(Pid::from_raw(pid).context("a process")?, signal)?)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
