//! Kills servers, and processes that run one, while they work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{assert_row_kept, psql, start, temp_dir, write_a_row};
use crate::dev_postgres::identity::ProcessIdentity;
use crate::dev_postgres::{DevPostgres, MAX_CONNECTIONS, POLL, cluster, server, stale};

/// Returns once another server is up.
pub(super) fn kill_9_the_server(postgres: &DevPostgres) {
    let killed = postgres.pid().unwrap();
    kill_9(killed);
    until("another server runs", || postgres.pid().is_some_and(|pid| pid != killed));
    postgres.wait_until_ready().unwrap();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(POLL);
    }
}

fn kill_9(pid: u32) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn data_survives_kill_9_of_the_server() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    write_a_row(&postgres);
    kill_9_the_server(&postgres);
    assert_row_kept(&postgres);
}

#[test]
fn a_halt_holds_while_a_restart_is_due() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    kill_9(postgres.pid().unwrap());
    postgres.halt();
    assert_eq!(postgres.pid(), None);
    postgres.resume().unwrap();
    assert_eq!(psql(&postgres, "SELECT 1"), "1");
}

#[test]
fn a_half_made_cluster_is_made_anew() {
    let dir = temp_dir();
    let unfinished = dir.path().join("data.tmp");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    assert_eq!(psql(&start(dir.path()), "SELECT 1"), "1");
    assert!(!unfinished.exists());
}

fn server_of(postgres: &DevPostgres, dir: &Path) -> server::PostgresServer {
    server::PostgresServer {
        program: postgres.binaries.program("postgres"),
        data: cluster::data_dir(dir),
        socket_dir: dir.join("run"),
        log: dir.join(server::LOG),
        fsync: true,
        max_connections: MAX_CONNECTIONS,
        identity: ProcessIdentity::choose().unwrap(),
    }
}

#[test]
fn a_server_that_an_earlier_run_left_is_stopped() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    write_a_row(&postgres);
    let server = server_of(&postgres, dir.path());
    drop(postgres);

    let mut left: Child = server.command().unwrap().spawn().unwrap();
    until("it writes its postmaster.pid", || server.data.join("postmaster.pid").exists());
    let postgres = start(dir.path());
    assert!(left.try_wait().unwrap().is_some());
    assert_row_kept(&postgres);
}

#[test]
#[cfg(target_os = "linux")]
fn kill_9_of_us_takes_the_server_along() {
    let dir = temp_dir();
    let name = concat!(module_path!(), "::helper_that_waits_to_be_killed");
    let (_, name) = name.split_once("::").unwrap();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(HELPER_DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ready = dir.path().join("ready");
    until("the helper is ready", || ready.exists());
    let server: u32 = fs::read_to_string(&ready).unwrap().parse().unwrap();
    let runs = || fs::read(format!("/proc/{server}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert!(runs());
    helper.kill().unwrap();
    helper.wait().unwrap();
    until("the server is gone", || !runs());
    assert_row_kept(&start(dir.path()));
}

/// The lock files of a server that was killed, as they were while it ran.
fn locks(dir: &Path) -> Vec<(PathBuf, String)> {
    let files = [dir.join("postgres/postmaster.pid"), dir.join("run/.s.PGSQL.5432.lock")];
    files.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).to_vec()
}

#[test]
#[cfg(target_os = "linux")]
fn lock_files_left_by_a_crash_never_prevent_a_start() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    write_a_row(&postgres);
    let left = locks(dir.path());
    drop(postgres);
    // A process of the user that Postgres runs as: Postgres takes any of these for a server.
    let identity = ProcessIdentity::choose().unwrap();
    let mut living = identity.command("/bin/sleep").arg("600").spawn().unwrap();
    let id = living.id().to_string();
    for first in [id.as_str(), "nonsense", "0", ""] {
        for (file, text) in &left {
            let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
            let whole = format!("{first}\n{rest}");
            fs::write(file, if first.is_empty() { "" } else { whole.as_str() }).unwrap();
        }
        assert_row_kept(&start(dir.path()));
    }
    assert!(living.try_wait().unwrap().is_none(), "it was none of ours");
    living.kill().unwrap();
    living.wait().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn locks_of_a_server_that_runs_are_left_alone() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    let before = locks(dir.path());
    let (data, socket) = (cluster::data_dir(dir.path()), postgres.socket_dir.socket());
    stale::clear(&data, &socket);
    assert_eq!(locks(dir.path()), before);
    // Nor if its lock file does not name it.
    fs::write(&before[0].0, "nonsense").unwrap();
    stale::clear(&data, &socket);
    assert_eq!(fs::read_to_string(&before[0].0).unwrap(), "nonsense");
    fs::write(&before[0].0, &before[0].1).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_that_an_earlier_run_left_is_stopped_without_its_lock() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    write_a_row(&postgres);
    let server = server_of(&postgres, dir.path());
    drop(postgres);
    let mut left: Child = server.command().unwrap().spawn().unwrap();
    until("it writes its postmaster.pid", || server.data.join("postmaster.pid").exists());
    fs::write(server.data.join("postmaster.pid"), "").unwrap();
    let postgres = start(dir.path());
    assert!(left.try_wait().unwrap().is_some());
    assert_row_kept(&postgres);
}

const HELPER_DIR: &str = "SESSIOND_TEST_HELPER_DIR";

/// A helper of `kill_9_of_us_takes_the_server_along`, which runs it in another process.
#[test]
fn helper_that_waits_to_be_killed() {
    let Some(dir) = std::env::var_os(HELPER_DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let postgres = start(dir);
    write_a_row(&postgres);
    fs::write(dir.join("ready.tmp"), postgres.pid().unwrap().to_string()).unwrap();
    fs::rename(dir.join("ready.tmp"), dir.join("ready")).unwrap();
    // Bounded, in case the killing process was killed.
    std::thread::sleep(Duration::from_secs(60));
}
