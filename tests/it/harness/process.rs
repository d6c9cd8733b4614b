//! The real binary, as an operator runs it: flags, banner, logs, signals.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

use super::calls::is_busy;
use super::cluster::{connect, open_to_all};
use super::wait;

/// A data directory, and files for the output of processes. Removed with the last process.
pub struct Place {
    dir: tempfile::TempDir,
}

/// A running `sessiond`. Dropping it kills it.
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

/// The exit status and output of a process.
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("sessiond-it-").tempdir().expect("a directory");
        open_to_all(dir.path());
        Place { dir }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The URL of the private Postgres in the data directory.
    pub fn url(&self) -> String {
        let run = self.data_dir().join("run");
        let host = run.to_str().expect("a plain path").replace('/', "%2F");
        format!("postgresql:///sessiond?host={host}&user=sessiond")
    }

    /// The process id of the private Postgres.
    pub fn postgres(&self) -> Option<Pid> {
        let file = self.data_dir().join("postgres/postmaster.pid");
        let text = std::fs::read_to_string(file).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    /// Starts `sessiond` with these flags, and only the necessary part of the environment.
    pub fn spawn(&self, flags: &[&str], env: &[(&str, &str)]) -> Process {
        self.spawn_into(flags, env, None, None)
    }

    /// The same with standard output and error to other destinations.
    pub fn spawn_into(
        &self,
        flags: &[&str],
        env: &[(&str, &str)],
        to_out: Option<Stdio>,
        to_err: Option<Stdio>,
    ) -> Process {
        let number = std::fs::read_dir(self.dir.path()).expect("our directory").count();
        let file = |kind: &str| self.dir.path().join(format!("{number}.{kind}"));
        let (out, err) = (file("out"), file("err"));
        let (own_out, own_err) =
            (File::create(&out).expect("a file"), File::create(&err).expect("a file"));
        let child = Command::new(env!("CARGO_BIN_EXE_sessiond"))
            .args(flags)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SESSIOND_LISTEN", "127.0.0.1:0")
            .env("SESSIOND_HTTP_LISTEN", "127.0.0.1:0")
            .env("SESSIOND_DATA_DIR", self.data_dir())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(to_out.unwrap_or(own_out.into()))
            .stderr(to_err.unwrap_or(own_err.into()))
            .spawn()
            .expect("the binary runs");
        Process { child, out, err }
    }

    /// Starts it on its private Postgres and waits until it listens.
    pub async fn serve(&self) -> (Process, SessionServiceClient<Channel>) {
        let mut process = self.spawn(&[], &[]);
        let addr = process.addr().await;
        (process, client(addr).await)
    }

    /// A connection to the private Postgres.
    pub async fn connect(&self) -> tokio_postgres::Client {
        connect(&self.url()).await
    }
}

impl Process {
    /// The address in the banner, once it is printed.
    pub async fn addr(&mut self) -> SocketAddr {
        let mut found = None;
        wait::until(async || {
            let banner = read(&self.out);
            let line = banner.lines().find_map(|line| line.strip_prefix("sessiond listens on "));
            found = line.filter(|_| banner.contains("try:")).map(str::to_owned);
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none(), "it ended: {}", read(&self.err));
            found.is_some()
        })
        .await;
        found.expect("a line").parse().expect("an address")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our child takes it");
    }

    /// The log so far.
    pub fn said(&self) -> String {
        read(&self.err)
    }

    /// Lets the process open only `spare` further files or connections; returns the limit before.
    #[cfg(target_os = "linux")]
    pub fn leave_descriptors(&self, spare: usize) -> Rlimit {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("our child");
        let name = |file: std::io::Result<std::fs::DirEntry>| file.expect("a file").file_name();
        let open: Vec<usize> =
            files.map(|file| name(file).to_str().expect("digits").parse().expect("one")).collect();
        let free = |limit| limit - open.iter().filter(|file| **file < limit).count();
        let limit = (spare..).find(|limit| free(*limit) == spare).expect("there are more");
        let limit = u64::try_from(limit).expect("a small number");
        // The process raised its limit to the maximum, which is the same as ours.
        let maximum = getrlimit(Resource::Nofile).maximum;
        self.allow_descriptors(Rlimit { current: Some(limit), maximum })
    }

    /// Sets the limit of open files; returns the one before.
    #[cfg(target_os = "linux")]
    pub fn allow_descriptors(&self, limit: Rlimit) -> Rlimit {
        let pid = Pid::from_child(&self.child);
        prlimit(Some(pid), Resource::Nofile, limit).expect("our child takes it")
    }

    /// Waits until the process ends.
    pub async fn ended(mut self) -> Ended {
        let mut status = None;
        wait::until(async || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        })
        .await;
        Ended { status: status.expect("an end"), out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Asserts an orderly refusal whose message has each of these words.
    pub fn assert_refused(&self, words: &[&str]) {
        assert!(!self.status.success(), "it ran: {}", self.out);
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).expect("our file")).into_owned()
}

pub async fn channel(addr: SocketAddr) -> Channel {
    let address = Channel::from_shared(format!("http://{addr}")).expect("an address");
    address.connect().await.expect("it accepts")
}

pub async fn client(addr: SocketAddr) -> SessionServiceClient<Channel> {
    SessionServiceClient::new(channel(addr).await)
}

/// Validates a token with a plain client.
pub async fn outcome(client: &mut SessionServiceClient<Channel>, token: &str) -> pb::Outcome {
    let access_token = token.to_owned();
    let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
    loop {
        match client.validate_session(request.clone()).await {
            Err(status) if is_busy(&status) => {}
            judged => return judged.expect("a judgement").into_inner().outcome(),
        }
    }
}
