//! The user that Postgres runs as, and every child process of this module.
//!
//! Owns the drop of root privileges and what every child must have: its own process group, no `PG*` variables, and a
//! signal when we end. Does not depend on what the children do.

#![deny(unsafe_code)]

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The user of a child: another user, or ourselves.
#[derive(Debug, Clone)]
pub(super) struct ProcessIdentity(Option<User>);

#[derive(Debug, Clone, PartialEq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl ProcessIdentity {
    /// The user that Postgres runs as. Postgres refuses root, so root becomes `postgres`, else `nobody`.
    pub(super) fn choose() -> Result<ProcessIdentity> {
        if !rustix::process::geteuid().is_root() {
            return Ok(ProcessIdentity::ourselves());
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let user = find_user(&passwd, "postgres").or_else(|| find_user(&passwd, "nobody"));
        let user = user.context(
            "Postgres does not run as root, and this system has neither a user postgres nor a \
             user nobody: add one (useradd --system postgres), or run sessiond as another user",
        )?;
        Ok(ProcessIdentity(Some(user)))
    }

    pub(super) fn ourselves() -> ProcessIdentity {
        ProcessIdentity(None)
    }

    pub(super) fn uid(&self) -> u32 {
        self.0.as_ref().map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
    }

    pub(super) fn name(&self) -> String {
        self.0.as_ref().map_or_else(|| format!("uid {}", self.uid()), |user| user.name.clone())
    }

    /// A command that runs as this user. It is signalled (SIGINT) when the calling thread ends, so
    /// call `spawn` on a thread that outlives the child.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        // Ctrl-C in a terminal signals our group only, so that we choose the order of the shutdown.
        command.process_group(0).current_dir("/").stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some(user) = &self.0 {
            // std also clears the supplementary groups when root changes its uid.
            command.uid(user.uid).gid(user.gid);
        }
        #[cfg(target_os = "linux")]
        die_with_parent(&mut command);
        command
    }

    /// Makes `path` a directory that only this user (and root) can enter.
    pub(super) fn make_private_dir(&self, path: &Path) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
        // An existing path may belong to an attacker, as in a shared temp directory.
        let found = fs::symlink_metadata(path)?;
        let ours = ProcessIdentity::ourselves().uid();
        ensure!(
            found.is_dir()
                && found.mode() & 0o077 == 0
                && [self.uid(), ours].contains(&found.uid()),
            "{} must be a directory of mode 0700 that belongs to {}: remove it and start again",
            path.display(),
            self.name(),
        );
        if let Some(user) = self.0.as_ref().filter(|user| user.uid != found.uid()) {
            chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("cannot give {} to {}", path.display(), user.name))?;
        }
        Ok(())
    }

    /// Creates `path` and its missing parents; as root, so that this user can enter them.
    pub(super) fn make_home(&self, path: &Path) -> Result<()> {
        let mode = if self.0.is_some() { 0o755 } else { 0o700 };
        let missing: Vec<_> = path.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            // Independent of the umask.
            fs::set_permissions(dir, Permissions::from_mode(mode))?;
        }
        self.check_can_enter(path)
    }

    /// Asks the kernel, which also checks access lists, rather than reading mode bits.
    fn check_can_enter(&self, path: &Path) -> Result<()> {
        let enters = |dir: &Path| {
            let status = self.command("/bin/sh").args(["-c", ":"]).current_dir(dir).status();
            status.is_ok_and(|status| status.success())
        };
        if self.0.is_none() || enters(path) {
            return Ok(());
        }
        let closed = path.ancestors().filter(|dir| !enters(dir)).last().unwrap_or(path);
        anyhow::bail!(
            "{} is out of reach for user {}, whom Postgres runs as: {} is closed to it. Set \
             --data-dir (SESSIOND_DATA_DIR) to a directory outside, such as /var/lib/sessiond",
            path.display(),
            self.name(),
            closed.display(),
        )
    }
}

fn find_user(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name: name.to_owned(), uid, gid })
    })
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the parent-death signal can only be asked for in the child")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let parent = Some(getpid());
    let arrange = move || {
        // A change of uid clears the signal; std runs this after it.
        set_parent_process_death_signal(Some(Signal::INT))?;
        if getppid() == parent { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec the closure only makes two system calls and compares two
    // integers; it neither allocates nor takes a lock, and it touches no memory of the parent.
    unsafe { command.pre_exec(arrange) };
}

#[cfg(test)]
mod tests {
    use super::{User, find_user};

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/:/bin/sh\npostgres2:x:7:7::/:\npostgres:x:101:104::/:/bin/sh\n";
        let found = Some(User { name: "postgres".to_owned(), uid: 101, gid: 104 });
        assert_eq!(find_user(passwd, "postgres"), found);
        assert_eq!(find_user(passwd, "nobody"), None);
    }
}
