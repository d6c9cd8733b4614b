//! How the server is started, and its log.
//!
//! Owns the settings and `postgres.log`; the supervisor decides when to start.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::home::PORT;
use super::identity::ProcessIdentity;

/// The log's name in the data home.
pub(super) const LOG: &str = "postgres.log";

/// A start empties a log of more bytes.
const LARGEST_LOG: u64 = 10 * 1024 * 1024;

const SETTINGS: [&str; 4] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "shared_buffers=128MB",
    "logging_collector=off",
];
const UNSAFE_SETTINGS: [&str; 2] = ["fsync=off", "full_page_writes=off"];

/// The paths and settings that the server is started with.
#[derive(Debug)]
pub(super) struct PostgresServer {
    pub(super) program: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: PathBuf,
    pub(super) fsync: bool,
    pub(super) max_connections: u16,
    pub(super) identity: ProcessIdentity,
}

impl PostgresServer {
    /// The command that runs the server in the foreground, as the child itself.
    pub(super) fn command(&self) -> Result<Command> {
        let mut options = OpenOptions::new();
        let log = options.append(true).create(true).mode(0o600).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        if log.metadata()?.len() > LARGEST_LOG {
            log.set_len(0)?;
        }
        let mut command = self.identity.command(&self.program);
        command.arg("-D").arg(&self.data).args(["-p", PORT]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("max_connections={}", self.max_connections));
        command.arg("-c").arg(socket_setting(&self.socket_dir));
        if !self.fsync {
            for setting in UNSAFE_SETTINGS {
                command.args(["-c", setting]);
            }
        }
        command.stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }
}

/// The setting is a list: the quotes keep a comma or space in the path from ending it.
fn socket_setting(dir: &Path) -> OsString {
    let mut setting = b"unix_socket_directories=\"".to_vec();
    for &byte in dir.as_os_str().as_bytes() {
        setting.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    setting.push(b'"');
    OsString::from_vec(setting)
}

/// The end of the log, for an error message.
pub(super) fn last_lines(log: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = tail.lines().collect();
    Ok(lines[lines.len().saturating_sub(8)..].join("\n"))
}
