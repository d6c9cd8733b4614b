//! The server that is attacked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use tempfile::TempDir;

use crate::pki::{Authority, Files, client_config};

/// What the server is like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Tls,
    /// Callers are authenticated.
    Callers,
}

/// A new key of a new principal with these roles.
fn api_key(url: &str, dir: &Path, name: &str, roles: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    command.args(["api-key", "create", name, "--expires-in", "1d", "--tenant", "default"]);
    for role in roles {
        command.args(["--role", role]);
    }
    let output = command.arg("--data-dir").arg(dir).env("DATABASE_URL", url).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A running server. Dropping it ends it, and its Postgres.
pub struct Server {
    pub addr: SocketAddr,
    /// How to speak to it, if it speaks TLS.
    pub tls: Option<ClientConfig>,
    /// The API keys of an honest caller and of a greedy one, if callers are authenticated.
    pub honest: Option<String>,
    pub greedy: Option<String>,
    http: SocketAddr,
    child: Child,
    /// Kept open: the server may still print.
    _stdout: BufReader<ChildStdout>,
    _postgres: DevPostgres,
    _files: Option<Files>,
    // After the server that works in it.
    _dir: TempDir,
}

impl Server {
    /// With room for a crowd of so many.
    pub fn start(crowd: u32, kind: Kind) -> anyhow::Result<Server> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::Builder::new().prefix("sessiond-bench-").tempdir()?;
        // Postgres run by root drops to another user, who must be able to enter.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let data_dir = dir.path().join("home");
        let postgres = DevPostgres::start(DevPostgresOptions {
            data_dir,
            pg_bin: None,
            fsync: false,
            max_connections: MAX_CONNECTIONS,
        })?;
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let room = (crowd + 1000).to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
        let url = postgres.url("sessiond");
        let key = |name, roles| api_key(&url, &dir.path().join("server"), name, roles);
        let (honest, greedy) = match kind {
            Kind::Callers => {
                command.args(["--callers", "authenticated", "--reflection", "on"]);
                let honest = key("honest", &["login", "gateway"])?;
                (Some(honest), Some(key("greedy", &["gateway"])?))
            }
            Kind::Plain | Kind::Tls => (None, None),
        };
        let log = match kind {
            // A pipe that nobody reads.
            Kind::Callers => Stdio::piped(),
            Kind::Plain | Kind::Tls => std::fs::File::create(dir.path().join("server.log"))?.into(),
        };
        let tls = (kind == Kind::Tls).then(|| {
            let authority = Authority::new("bench");
            let files = Files::new(&authority.server(), None);
            command.arg("--tls-cert").arg(files.path("cert.pem"));
            command.arg("--tls-key").arg(files.path("key.pem"));
            (client_config(&[&authority], None, &[&rustls::version::TLS13]), files)
        });
        // Small caches, so that what they keep is not taken for a leak.
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--http-listen", &http.to_string()])
            .args([
                "--idle-timeout",
                "24h",
                "--access-token-ttl",
                "24h",
                "--handshake-timeout",
                "2s",
                "--cache-memory",
                "16",
            ])
            .args(["--max-connections", &room, "--data-dir"])
            .arg(dir.path().join("server"))
            .env("DATABASE_URL", &url)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let addr = line.trim().strip_prefix("sessiond listens on ").context("it does not start")?;
        let addr = addr.parse()?;
        let (tls, files) = tls.unzip();
        Ok(Server {
            addr,
            tls,
            honest,
            greedy,
            http,
            child,
            _stdout: stdout,
            _postgres: postgres,
            _files: files,
            _dir: dir,
        })
    }

    /// The memory that it has, in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        Ok(kilobytes.context("VmRSS")?.trim().parse::<u64>()? * 1024)
    }

    /// Waits until it has less memory than so many bytes: the allocator gives back late what was freed.
    pub async fn slims(&self, most: u64) -> anyhow::Result<()> {
        for _ in 0..300 {
            if self.resident()? < most {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("memory stays taken: {} MiB", self.resident()? >> 20)
    }

    /// Waits until only the honest caller is connected.
    pub async fn calm(&self) -> anyhow::Result<()> {
        for _ in 0..300 {
            if self.metric("sessiond_connections")? <= 1.0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("connections of attackers are still there after 30 s")
    }

    /// What a series without labels, or with these, counts.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.scrape()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.context("the metric")?.trim().parse()?)
    }

    fn scrape(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Stops it, which must be in good order.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
