//! Runs real servers, each in a data home of its own under the temp directory.

mod faults;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::process::Pid;
use tempfile::TempDir;

use self::faults::kill_9_the_server;
use super::identity::ProcessIdentity;
use super::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS, binaries};

/// A temp directory that the server's user can enter even when root made it.
pub(super) fn temp_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("sessiond-test-").tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    dir
}

fn options(data_dir: &Path) -> DevPostgresOptions {
    DevPostgresOptions {
        data_dir: data_dir.to_owned(),
        pg_bin: None,
        fsync: true,
        max_connections: MAX_CONNECTIONS,
    }
}

pub(super) fn start(data_dir: &Path) -> DevPostgres {
    DevPostgres::start(options(data_dir)).unwrap()
}

pub(super) fn psql(postgres: &DevPostgres, statement: &str) -> String {
    let mut psql = Command::new(postgres.bin_dir().join("psql"));
    psql.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    let output = psql.arg(postgres.url("sessiond")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(super) fn write_a_row(postgres: &DevPostgres) {
    psql(postgres, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('kept')");
}

pub(super) fn assert_row_kept(postgres: &DevPostgres) {
    assert_eq!(psql(postgres, "SELECT word FROM kept"), "kept");
}

#[test]
fn a_new_cluster_is_as_agreed() {
    let dir = temp_dir();
    let postgres = start(&dir.path().join("home"));
    let settings = "SELECT concat_ws(' ', current_user, current_database(), \
        current_setting('server_encoding'), current_setting('data_checksums'), \
        current_setting('fsync'), current_setting('synchronous_commit'), \
        current_setting('listen_addresses'), datcollate) \
        FROM pg_database WHERE datname = current_database()";
    assert_eq!(psql(&postgres, settings), "sessiond sessiond UTF8 on on on  C");
    for (name, mode) in [("postgres", 0o700), ("run", 0o700), ("postgres.log", 0o600)] {
        let found = fs::metadata(postgres.data_dir().join(name)).unwrap();
        assert_eq!(found.mode() & 0o777, mode, "{name}");
    }
    let line = format!("{} -Atc 'SELECT 1'", postgres.psql_line());
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(output.stdout, b"1\n");
}

#[test]
#[cfg(target_os = "linux")]
fn the_server_keeps_no_privilege_of_ours() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    let pid = postgres.pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let uid = ProcessIdentity::choose().unwrap().uid().to_string();
    assert!(field("Uid:").split_whitespace().all(|id| id == uid));
    assert_ne!(uid, "0");
    if rustix::process::geteuid().is_root() {
        assert_eq!(field("Groups:").trim(), "");
    }
    let group = rustix::process::getpgid(Pid::from_raw(pid.try_into().unwrap())).unwrap();
    assert_eq!(group.as_raw_nonzero().get().unsigned_abs(), pid);
}

#[test]
fn data_survives_a_stop_and_a_start() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    write_a_row(&postgres);
    postgres.halt();
    assert_eq!(postgres.pid(), None);
    postgres.resume().unwrap();
    assert_row_kept(&postgres);
    drop(postgres);
    assert!(!dir.path().join("postgres/postmaster.pid").exists());
    assert_row_kept(&start(dir.path()));
}

#[test]
fn a_second_instance_is_refused() {
    let dir = temp_dir();
    let _first = start(dir.path());
    let refusal = DevPostgres::start(options(dir.path())).unwrap_err().to_string();
    let us = format!("another sessiond (process {}) is using", std::process::id());
    assert!(refusal.starts_with(&us), "{refusal}");
    assert!(refusal.contains("--data-dir"), "{refusal}");
}

#[test]
fn a_deep_and_odd_data_dir_works_and_leaves_no_socket_dir() {
    let dir = temp_dir();
    let deep = dir.path().join("d".repeat(100)).join("a, b");
    let postgres = start(&deep);
    let socket_dir = postgres.socket_dir.path().to_owned();
    assert!(!socket_dir.starts_with(&deep));
    assert_eq!(psql(&postgres, "SELECT 1"), "1");
    drop(postgres);
    assert!(!socket_dir.exists());
    let shallow_but_odd = dir.path().join("a  \"b\" 'c' %41");
    assert_eq!(psql(&start(&shallow_but_odd), "SELECT 1"), "1");
}

#[test]
fn a_closed_parent_directory_is_named() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let closed = temp_dir();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let refusal = DevPostgres::start(options(&closed.path().join("a/b"))).unwrap_err().to_string();
    let named = format!("{} is closed to it", closed.path().display());
    assert!(refusal.contains(&named), "{refusal}");
}

#[test]
fn a_pip_install_works_and_is_reused() {
    let dir = temp_dir();
    let cache = dir.path().join("cache");
    let identity = ProcessIdentity::choose().unwrap();
    fs::create_dir_all(cache.join("unfinished/half")).unwrap();
    let installed = binaries::installed(&cache, None, &identity).unwrap();
    assert!(!cache.join("unfinished").exists());
    assert_eq!(binaries::installed(&cache, Some(18), &identity).unwrap(), installed);
    let refusal = binaries::installed(&cache, Some(12), &identity).unwrap_err().to_string();
    assert!(refusal.contains("made by PostgreSQL 12"), "{refusal}");

    let home = dir.path().join("home");
    let pg_bin = Some(installed.dir().to_owned());
    let postgres = DevPostgres::start(DevPostgresOptions { pg_bin, ..options(&home) }).unwrap();
    assert!(psql(&postgres, "SHOW server_version").starts_with("18."));
    write_a_row(&postgres);
    kill_9_the_server(&postgres);
    assert_row_kept(&postgres);
}

#[test]
fn a_cluster_wants_its_own_major_version() {
    let dir = temp_dir();
    let postgres = start(dir.path());
    let pg_bin = Some(postgres.bin_dir().to_owned());
    drop(postgres);
    fs::write(dir.path().join("postgres/PG_VERSION"), "9").unwrap();
    let refusal = DevPostgres::start(options(dir.path())).unwrap_err().to_string();
    assert!(refusal.contains("made by PostgreSQL 9"), "{refusal}");
    let refusal =
        DevPostgres::start(DevPostgresOptions { pg_bin, ..options(dir.path()) }).unwrap_err();
    assert!(refusal.to_string().contains("but PostgreSQL 9 made the cluster"), "{refusal}");
}
