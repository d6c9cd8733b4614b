//! Kills servers, and processes that run one, in the middle of things.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{assert_row_kept, psql, start, temp_dir, write_a_row};
use crate::dev_postgres::identity::Identity;
use crate::dev_postgres::{DevPostgres, MAX_CONNECTIONS, POLL, cluster, server};

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

#[test]
fn a_server_that_an_earlier_run_left_is_stopped() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    write_a_row(&postgres);
    let program = postgres.binaries.program("postgres");
    drop(postgres);

    let server = server::Server {
        program,
        data: cluster::data_dir(dir.path()),
        socket_dir: dir.path().join("run"),
        log: dir.path().join(server::LOG),
        fsync: true,
        max_connections: MAX_CONNECTIONS,
        identity: Identity::choose().unwrap(),
    };
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

const HELPER_DIR: &str = "SESSIOND_TEST_HELPER_DIR";

/// Not a test of its own: `kill_9_of_us_takes_the_server_along` runs it in another process.
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
    // Bounded, in case the one who kills was killed.
    std::thread::sleep(Duration::from_secs(60));
}
