//! Lock files of Postgres that outlive their server. After a crash of both, their process id may be another process's,
//! in a new process namespace even one of our threads, or they may be truncated. Postgres then never starts.
//!
//! The caller holds the lock on the data home, so no other sessiond runs a server in it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Removes the lock files of `data` and of `socket` if one would keep Postgres from starting, and certainly no process
/// uses the cluster. Otherwise Postgres decides.
pub(super) fn clear(data: &Path, socket: &Path) {
    let of_socket = PathBuf::from(format!("{}.lock", socket.display()));
    let files = [data.join("postmaster.pid"), of_socket];
    let is_in_use = || {
        !cfg!(target_os = "linux")
            || processes().any(|pid| is_server(pid, data) || is_left(pid, data))
            || UnixStream::connect(socket).is_ok()
            || files.iter().any(|file| is_memory_attached(file))
    };
    if !files.iter().any(|file| is_obstacle(file)) || is_in_use() {
        return;
    }
    for file in files {
        match fs::remove_file(&file) {
            Ok(()) => tracing::warn!(file = %file.display(), "removed a lock that a crash left"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file = %file.display(), %error, "cannot remove a lock"),
        }
    }
}

/// The server that runs in this cluster, according to `/proc`. Linux only.
pub(super) fn server(data: &Path) -> Option<Pid> {
    processes().find(|pid| is_server(*pid, data))
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw)
}

/// Whether a process is a server in this cluster, by its command line as we start it.
fn is_server(pid: Pid, data: &Path) -> bool {
    let words = command_line(pid);
    let data = data.as_os_str().as_encoded_bytes();
    is_postgres(&words) && words.windows(2).any(|pair| pair[0] == b"-D" && pair[1] == data)
}

/// Whether a process belongs to a server of this cluster: all of them work in the data directory.
fn is_left(pid: Pid, data: &Path) -> bool {
    let dir = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    dir.is_ok_and(|dir| dir == data) && is_postgres(&command_line(pid))
}

fn command_line(pid: Pid) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// `/usr/lib/postgresql/17/bin/postgres`, `postgres: checkpointer`.
fn is_postgres(words: &[Vec<u8>]) -> bool {
    let name = words.first().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
    name.is_some_and(|name| name.starts_with(b"postgres"))
        || words.first().is_some_and(|word| word.starts_with(b"postgres:"))
}

/// Whether Postgres would refuse to start because of this file (`CreateLockFile` in its miscinit.c).
fn is_obstacle(file: &Path) -> bool {
    let Ok(text) = fs::read(file) else { return false };
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or_default().trim();
    // A stand-alone server writes a negative number.
    let number = line.parse::<i32>().ok().map(|number| number.saturating_abs());
    match number.and_then(Pid::from_raw) {
        None => true,
        Some(pid) => test_kill_process(pid) != Err(Errno::SRCH),
    }
}

/// Whether a process is attached to the shared memory that the file names.
fn is_memory_attached(file: &Path) -> bool {
    let Ok(text) = fs::read(file) else { return false };
    let text = String::from_utf8_lossy(&text);
    let Some(id) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
        return false;
    };
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let mut fields = segments.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // key, id, permissions, size, two processes, and the number attached.
    fields.any(|segment| segment.get(1) == Some(&id) && segment.get(6) != Some(&"0"))
}
