//! The database cluster in the data home, while none of our servers runs in it.
//!
//! Owns `postgres/` and `data.tmp/`: makes the cluster, and stops a server that an earlier run
//! left in it. The caller holds the lock on the data home.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::binaries::Binaries;
use super::identity::ProcessIdentity;
use super::stale;
use super::supervise::STOP_PATIENCE;
use super::{NAME, POLL};

pub(super) fn data_dir(home: &Path) -> PathBuf {
    home.join("postgres")
}

/// The major version that made the cluster, or `None` if there is no cluster yet.
pub(super) fn major(home: &Path) -> Result<Option<u32>> {
    let path = data_dir(home).join("PG_VERSION");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let major = text.trim().parse();
    Ok(Some(major.with_context(|| format!("{} holds no version", path.display()))?))
}

/// Creates the cluster with its database, under a temporary name that is then renamed.
pub(super) fn create(
    home: &Path,
    binaries: &Binaries,
    identity: &ProcessIdentity,
    fsync: bool,
) -> Result<()> {
    tracing::info!(home = %home.display(), "making a database cluster");
    let unfinished = home.join("data.tmp");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    identity.make_private_dir(&unfinished)?;

    let mut initdb = identity.command(binaries.program("initdb"));
    initdb.args(["--username", NAME, "--auth=trust", "--encoding=UTF8", "--locale=C", "-k"]);
    initdb.args((!fsync).then_some("--no-sync")).arg("-D").arg(&unfinished);
    run(initdb, "")?;

    let mut postgres = identity.command(binaries.program("postgres"));
    postgres.arg("--single").arg("-D").arg(&unfinished);
    // Without it a statement that fails does not fail the process.
    postgres.args(["-c", "exit_on_error=on"]).args((!fsync).then_some("-F")).arg("postgres");
    run(postgres, &format!("CREATE DATABASE {NAME};\n"))?;

    let finished = data_dir(home);
    fs::rename(&unfinished, &finished).with_context(|| {
        format!(
            "{} is there and is no database cluster: move it away, or set --data-dir \
             (SESSIOND_DATA_DIR) to another directory",
            finished.display()
        )
    })?;
    File::open(home)?.sync_all().context("cannot sync the data directory")
}

/// Checks that the cluster is this user's, and stops a server that still runs in it: one whose sessiond was killed,
/// if the system has no parent-death signal or the server is still stopping.
pub(super) fn take_over(home: &Path, identity: &ProcessIdentity) -> Result<()> {
    let data = data_dir(home);
    let owner = fs::metadata(&data)?.uid();
    let user = identity.name();
    ensure!(
        owner == identity.uid(),
        "{0} belongs to uid {owner}, but Postgres would run as {user}: run sessiond as the user \
         that made it, give it over (chown -R {1} {0}), or set --data-dir (SESSIOND_DATA_DIR)",
        data.display(),
        identity.uid(),
    );
    let Some(pid) = running_server(&data) else {
        return Ok(());
    };
    tracing::warn!(pid = pid.as_raw_nonzero(), "stopping the Postgres that an earlier run left");
    for signal in [Signal::INT, Signal::QUIT] {
        // It may have ended already.
        let _ = kill_process(pid, signal);
        let begun = Instant::now();
        while begun.elapsed() < STOP_PATIENCE {
            if running_server(&data) != Some(pid) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }
    bail!("Postgres (process {pid}) of an earlier run does not stop: end it (kill -9 {pid})")
}

/// The server that runs in this cluster. Where the system cannot list all processes, the one that `postmaster.pid`
/// names, if it is a server in this cluster: the process id may belong to another process by now.
fn running_server(data: &Path) -> Option<Pid> {
    if cfg!(target_os = "linux") {
        return stale::server(data);
    }
    let file = fs::read(data.join("postmaster.pid")).ok()?;
    let first = String::from_utf8_lossy(&file).lines().next()?.trim().parse().ok()?;
    let pid = Pid::from_raw(first)?;
    let number = pid.as_raw_nonzero().to_string();
    let told = Command::new("ps").args(["-ww", "-o", "command=", "-p", &number]).output().ok()?;
    let line = String::from_utf8_lossy(&told.stdout);
    (line.contains("postgres") && line.contains(&*data.to_string_lossy())).then_some(pid)
}

fn run(mut command: Command, input: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A child that has ended does not read; its exit status says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed ({}): {}", output.status, said.trim());
    Ok(())
}
