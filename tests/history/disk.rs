//! A small disk for Postgres alone, which can be filled: a tmpfs, which only root may mount.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Set in the process that has a mount namespace of its own.
const OWN_MOUNTS: &str = "SESSIOND_HISTORY_OWN_MOUNTS";
/// More than a run ever needs. Only its contents use memory.
const SIZE: u64 = 16 << 30;
/// The room beside the ballast when it starts to fill.
const ROOM: u64 = 1 << 20;
const BALLAST: &str = "ballast";
/// A page, the smallest growth of the ballast.
const LEAST: u64 = 4 << 10;

/// A mounted tmpfs.
pub struct Disk(PathBuf);

/// Restarts this program in a mount namespace of its own, which disappears with it however it ends. Returns in that
/// process, or if it is not permitted.
pub fn enter_own_mounts() {
    if std::env::var_os(OWN_MOUNTS).is_some() || !run("unshare", ["--mount", "true"]) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut again = Command::new("unshare");
    again.arg("--mount").arg(program).args(std::env::args_os().skip(1)).env(OWN_MOUNTS, "1");
    let error = again.exec();
    eprintln!("unshare: {error}");
}

impl Disk {
    /// Mounts the disk here; `None` if it is not permitted.
    pub fn mount(at: &Path) -> Option<Disk> {
        let options = format!("size={SIZE},mode=755");
        let options = ["-t", "tmpfs", "-o", &options, "sessiond-history"].map(OsStr::new);
        let options = options.into_iter().chain([at.as_os_str()]);
        let mounted = std::env::var_os(OWN_MOUNTS).is_some() && run("mount", options);
        mounted.then(|| Disk(at.to_owned()))
    }

    /// Fills it to the last block, and again if Postgres has freed some.
    pub fn fill(&self) -> std::io::Result<()> {
        let ballast = File::options().append(true).create(true).open(self.0.join(BALLAST))?;
        let mut length = ballast.metadata()?.len();
        if length == 0 {
            let now = statvfs(&self.0)?;
            let size = (now.f_blocks - now.f_bfree) * now.f_frsize + ROOM;
            // Postgres may have written more meanwhile.
            if !self.resize(size) {
                return Err(ErrorKind::ResourceBusy.into());
            }
        }
        let mut step = ROOM;
        while step >= LEAST {
            match fallocate(&ballast, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(_) => step /= 2,
            }
        }
        Ok(())
    }

    /// Removes the ballast.
    pub fn relieve(&self) -> std::io::Result<()> {
        self.resize(SIZE);
        std::fs::remove_file(self.0.join(BALLAST))
    }

    fn resize(&self, size: u64) -> bool {
        let size = format!("remount,size={size}");
        run("mount", [OsStr::new("-o"), OsStr::new(&size), self.0.as_os_str()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Postgres may still use it; no other process sees it.
        run("umount", [OsStr::new("--lazy"), self.0.as_os_str()]);
    }
}

/// True if the command succeeds.
fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> bool {
    let mut command = Command::new(program);
    let ended = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}
