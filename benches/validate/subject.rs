//! The subject: the server as shipped, in its own process, on a private Postgres.

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use sessiond::gateway::{ApiKey, Gateway, GatewayOptions, Verdict};
use sessiond::grpc::pb;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use tonic::transport::Channel;

use crate::callers::{Server, question};

/// A key of a principal that may create and validate.
fn api_key(url: &str, dir: &Path) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_sessiond"))
        .args(["api-key", "create", "bench", "--expires-in", "1d", "--tenant", "default"])
        .args(["--role", "login", "--role", "gateway", "--data-dir"])
        .arg(dir)
        .env("DATABASE_URL", url)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A running server. Dropping it ends it, and its Postgres.
pub struct Subject {
    pub server: Server,
    addr: String,
    /// The API key of the callers, if they are authenticated.
    pub key: Option<String>,
    child: Child,
    /// Kept open: the server may still print.
    _stdout: BufReader<ChildStdout>,
    database: Client,
    _postgres: DevPostgres,
    // After the server that works in it.
    _dir: TempDir,
}

impl Subject {
    /// With so many MiB for sessions and their tokens.
    pub async fn start(memory: u32, authenticated: bool) -> anyhow::Result<Subject> {
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
        let url = postgres.url("sessiond");
        let log = dir.path().join("server.log");
        let memory = memory.to_string();
        let key = match authenticated {
            true => Some(api_key(&url, &dir.path().join("server"))?),
            false => None,
        };
        let callers = if authenticated { "authenticated" } else { "open" };
        let mut child = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            // A stream asks more often than one principal may.
            .args(["--callers", callers, "--rate-limit", "0"])
            .args(["--listen", "127.0.0.1:0", "--http-listen", "off"])
            .args(["--idle-timeout", "24h", "--access-token-ttl", "24h"])
            .args(["--cache-memory", &memory, "--data-dir"])
            .arg(dir.path().join("server"))
            .env("DATABASE_URL", &url)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start the server")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let addr = line.trim().strip_prefix("sessiond listens on ").map(str::to_owned);
        let addr = addr.with_context(|| format!("the server does not start: {}", said()))?;
        let server =
            Server::connect(&addr, key.as_deref(), child.id(), postgres.pid().unwrap_or(0)).await?;
        let (database, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        let (_stdout, _postgres, _dir) = (stdout, postgres, dir);
        Ok(Subject { server, addr, key, child, _stdout, database, _postgres, _dir })
    }

    /// Creates sessions; their access tokens.
    pub async fn fill(&self, sessions: Range<u32>, callers: u32) -> anyhow::Result<Vec<String>> {
        let creating: Vec<_> = (0..callers)
            .map(|caller| {
                let mut client = self.server.client(caller as usize);
                let mine = (sessions.start + caller..sessions.end).step_by(callers as usize);
                tokio::spawn(async move {
                    let mut tokens = Vec::new();
                    for number in mine {
                        let created = client.create_session(new_session(number)).await?;
                        let made = created.into_inner().tokens.context("tokens")?;
                        tokens.push(made.access_token);
                    }
                    anyhow::Ok(tokens)
                })
            })
            .collect();
        let mut tokens = Vec::new();
        for task in creating {
            tokens.extend(task.await??);
        }
        Ok(tokens)
    }

    pub async fn judgement(&self, token: &str) -> anyhow::Result<pb::ValidateSessionResponse> {
        Ok(self.server.client(0).validate_session(question(token)).await?.into_inner())
    }

    /// The memory that the server has, in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        Ok(kilobytes.context("VmRSS")?.trim().parse::<u64>()? * 1024)
    }

    /// How many transactions the database saw meanwhile.
    pub async fn transactions_while(
        &self,
        work: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<i64> {
        let before = self.transactions().await?;
        work().await?;
        Ok(self.transactions().await? - before)
    }

    async fn transactions(&self) -> anyhow::Result<i64> {
        // Sessions report what they did at the end of a transaction, at most once a second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database
            WHERE datname = current_database()";
        Ok(self.database.query_one(sql, &[]).await?.get(0))
    }

    /// Validations per second of the library's gateway, on one thread.
    pub async fn gateway(&self, tokens: &Arc<[String]>, asked: &[u32]) -> anyhow::Result<f64> {
        let channel = Channel::from_shared(format!("http://{}", self.addr))?.connect().await?;
        let options = GatewayOptions {
            api_key: self.key.as_deref().map(ApiKey::new),
            tokens: tokens.len() * 2,
            ..GatewayOptions::new("sessiond")
        };
        let gateway = Arc::new(Gateway::connect(channel, options).await?);
        let judge = |index: &u32| gateway.validate(&tokens[*index as usize]);
        // Verified once each.
        for index in asked {
            let verdict = judge(index);
            ensure!(matches!(verdict, Verdict::Active(_) | Verdict::Stale), "{verdict:?}");
            tokio::task::yield_now().await;
        }
        let mut active = 0_u32;
        let begun = Instant::now();
        for part in asked.chunks(1000) {
            active +=
                part.iter().filter(|at| matches!(judge(at), Verdict::Active(_))).count() as u32;
            tokio::task::yield_now().await;
        }
        let took = begun.elapsed().as_secs_f64();
        ensure!(active as usize == asked.len(), "{active} of {} were active", asked.len());
        Ok(f64::from(active) / took)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new_session(number: u32) -> pb::CreateSessionRequest {
    let user_agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    pb::CreateSessionRequest {
        user_id: format!("user-{number}"),
        client_id: "web".to_owned(),
        client: Some(pb::ClientContext {
            ip_address: "192.0.2.7".to_owned(),
            user_agent: user_agent.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}
