//! Postgres, three replicas, and the state that all callers share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Duration as Span;
use futures_util::future::join_all;
use prost::Message;
use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::token::seal::MasterKey;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::answer::Raw;
use crate::call::{Call, refused};
use crate::directory::{Directory, Pair};
use crate::disk::Disk;
use crate::keys::Keys;
use crate::pause;
use crate::proxy::Proxy;
use crate::record::{Answer, Epoch, Op, Outcome, Recorder};
use crate::replica::{BOUND, Replica};
use crate::users::{TENANTS, USERS, policies};

pub const REPLICAS: usize = 3;

/// The commit time of each change must be readable; and a log segment must be newly allocated, which fails on a full
/// disk.
const SETTINGS: [&str; 4] = [
    "track_commit_timestamp = on",
    "min_wal_size = '32MB'",
    "max_wal_size = '64MB'",
    "wal_recycle = off",
];

pub struct World {
    pub seed: u64,
    pub epoch: Epoch,
    pub postgres: DevPostgres,
    pub replicas: [Replica; REPLICAS],
    pub keys: Keys,
    pub directory: Directory,
    pub recorder: Recorder,
    /// Set at the end of the run, when callers stop.
    pub over: AtomicBool,
    /// The small disk, if it may be mounted.
    pub disk: Option<Disk>,
    _home: tempfile::TempDir,
}

impl World {
    /// Starts everything, with the policies in force.
    pub async fn start(seed: u64) -> anyhow::Result<Arc<World>> {
        let home = tempfile::Builder::new().prefix("sessiond-history-").tempdir()?;
        let disk = Disk::mount(home.path());
        open_to_all(home.path())?;
        let data_dir = home.path().join("home");
        // A killed Postgres loses nothing without fsync: only a crash of the machine would.
        let options = DevPostgresOptions {
            data_dir,
            pg_bin: None,
            fsync: false,
            max_connections: MAX_CONNECTIONS,
        };
        let postgres = tokio::task::spawn_blocking(|| DevPostgres::start(options)).await??;
        let admin = connect(&postgres.url("sessiond")).await?;
        for setting in SETTINGS {
            admin.execute(&format!("ALTER SYSTEM SET {setting}"), &[]).await?;
        }
        let postgres = tokio::task::spawn_blocking(move || {
            postgres.halt();
            postgres.resume().map(|()| postgres)
        });
        let postgres = postgres.await??;
        let socket = socket(&postgres)?;
        let proxies = join_all((0..REPLICAS).map(|_| Proxy::before(socket.clone()))).await;
        let master_key = MasterKey::generate();
        let mut numbered = proxies.into_iter().enumerate();
        let replicas = std::array::from_fn(|_| {
            let (number, proxy) = numbered.next().expect("one for each");
            Replica::new(number, proxy, master_key.clone())
        });
        // The first start creates the tables.
        let starting = replicas.each_ref().map(|replica: &Replica| replica.start(Span::zero()));
        join_all(starting).await;
        let keys = Keys::make(&postgres.url("sessiond")).await?;
        let world = Arc::new(World {
            seed,
            epoch: Epoch::begin(),
            postgres,
            replicas,
            keys,
            directory: Directory::default(),
            recorder: Recorder::default(),
            over: AtomicBool::new(false),
            disk,
            _home: home,
        });
        let mut client = SessionServiceClient::new(world.replicas[0].channel());
        for policy in policies() {
            let policy = Some(policy);
            client.update_policy(pb::UpdatePolicyRequest { policy, ..Default::default() }).await?;
        }
        // A create after this time obeys the policies on every replica, and replicas accept the keys.
        pause(BOUND).await;
        Ok(world)
    }

    pub async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        connect(&self.postgres.url("sessiond")).await
    }

    /// Stops Postgres at once: an immediate shutdown, or the kill of all its processes. It restarts by itself.
    pub fn restart_postgres(&self) {
        let pid = self.postgres.pid().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have just ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
    }

    /// Waits until Postgres accepts connections and every replica serves.
    pub async fn until_serving(&self) -> anyhow::Result<()> {
        let asking = join_all(self.replicas.iter().map(async |replica| {
            let mut client = SessionServiceClient::new(replica.channel());
            let strong = pb::validate_session_request::Freshness::Strong(true);
            loop {
                // The list needs the database; the malformed token does not.
                let list = pb::ListSessionsRequest { page_size: 1, ..Default::default() };
                let token = pb::ValidateSessionRequest {
                    freshness: Some(strong.clone()),
                    ..Default::default()
                };
                if client.list_sessions(list).await.is_ok()
                    && client.validate_session(token).await.is_ok()
                {
                    return;
                }
                pause(Duration::from_millis(50)).await;
            }
        }));
        tokio::time::timeout(Duration::from_secs(60), asking)
            .await
            .map_err(|_| anyhow::anyhow!("the replicas do not serve again after 60 s"))?;
        Ok(())
    }

    /// Makes a call and records it; returns its outcome.
    pub async fn call(
        &self,
        caller: u32,
        replica: usize,
        channel: Channel,
        call: &Call,
    ) -> Outcome {
        let start = self.epoch.now();
        let answer = call.send(channel, self.keys.of(call.role)).await;
        let end = self.epoch.now();
        let outcome = match &answer {
            Ok(raw) => Outcome::Ok(Box::new(raw.essence(&self.epoch))),
            Err(status) => refused(status),
        };
        self.recorder.push(Op {
            caller,
            replica,
            role: call.role,
            start,
            end,
            who: call.who,
            foreign: call.foreign,
            what: call.what.clone(),
            request: call.request(),
            outcome: outcome.clone(),
        });
        match (&answer, &outcome) {
            (Ok(raw), Outcome::Ok(answer)) => self.learn(call, raw, answer),
            (Err(status), _) => self.learn_conflict(call, status),
            _ => {}
        }
        if call.request().is_some() {
            self.directory.learn_request(call);
        }
        outcome
    }

    fn learn(&self, call: &Call, raw: &Raw, answer: &Answer) {
        if let (Some(session), Some(pair), Some(tokens)) =
            (&answer.session, raw.pair(), &answer.tokens)
        {
            let pair = Pair {
                generation: tokens.generation,
                access: pair.access_token.clone(),
                refresh: pair.refresh_token.clone(),
            };
            self.directory.learn_tokens(call.who, session.id, session.device, pair);
        }
        if let (Some(watermark), Some(session)) = (raw.watermark(), &answer.session) {
            self.directory.learn_watermark(call.who, session.id, watermark.to_owned());
        }
        if let (Raw::Alert(_), Some((alert, ..))) = (raw, answer.subject) {
            let tenant = TENANTS.iter().position(|tenant| *tenant == USERS[call.who].tenant);
            self.directory.learn_alert(tenant.expect("one of them"), call.who, alert);
        }
    }

    fn learn_conflict(&self, call: &Call, status: &Status) {
        if status.code() != Code::FailedPrecondition {
            return;
        }
        let Ok(details) = tonic_types::pb::Status::decode(status.details()) else { return };
        let url = "type.googleapis.com/sessiond.v1.SessionConflict";
        let detail = details.details.iter().find(|detail| detail.type_url == url);
        if let Some(Ok(conflict)) = detail.map(|it| pb::SessionConflict::decode(&it.value[..])) {
            self.directory.learn_conflict(call.who, conflict);
        }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Postgres drops root for another user, which must be able to enter.
fn open_to_all(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
}

fn socket(postgres: &DevPostgres) -> anyhow::Result<PathBuf> {
    let config: tokio_postgres::Config = postgres.url("sessiond").parse()?;
    match config.get_hosts() {
        [tokio_postgres::config::Host::Unix(dir)] => Ok(dir.join(".s.PGSQL.5432")),
        other => anyhow::bail!("not one socket directory: {other:?}"),
    }
}

async fn connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
