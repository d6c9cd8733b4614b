//! The data home: its location, its lock for one process at a time, and its socket directory.
//!
//! Owns `lock` and `run/`; must not look into the cluster.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::identity::ProcessIdentity;

/// The file name of Postgres's socket for [`PORT`].
const SOCKET_NAME: &str = ".s.PGSQL.5432";
/// Only part of the socket's name; the server listens on no TCP port.
pub(super) const PORT: &str = "5432";
/// The longest socket path in bytes, without the final NUL: 107 on Linux, 103 on macOS.
const LONGEST_SOCKET: usize = 103;

/// The directory of this program: `for_root`, or `sessiond` in a directory of the XDG specification (the variable that
/// names it, and its default in the home directory).
pub(super) fn user_dir(for_root: &str, variable: &str, in_home: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(for_root);
    }
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = named
        .or_else(|| Some(std::env::home_dir()?.join(in_home)))
        .unwrap_or_else(std::env::temp_dir);
    base.join("sessiond")
}

/// Creates the data home, and returns its canonical path.
pub(super) fn prepare(data_dir: &Path, identity: &ProcessIdentity) -> Result<PathBuf> {
    let home = std::path::absolute(data_dir).context("the data directory needs a name")?;
    identity.make_home(&home)?;
    home.canonicalize().with_context(|| format!("cannot resolve {}", home.display()))
}

/// The claim on a data home, held until dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn take(home: &Path) -> Result<Lock> {
        let path = home.join("lock");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).with_context(|| {
            format!(
                "cannot open {}: run sessiond as the user that made it, or set --data-dir \
                 (SESSIOND_DATA_DIR) to a directory of your own",
                path.display()
            )
        })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                bail!(
                    "another sessiond (process {}) is using {}: stop it, or set --data-dir \
                     (SESSIOND_DATA_DIR) to another directory",
                    holder.trim(),
                    home.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock(file))
    }
}

impl Lock {
    /// True if a process uses the data home. Takes the lock only for a moment.
    pub(super) fn is_taken(home: &Path) -> Result<bool> {
        let path = home.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {}", path.display()));
            }
        };
        // Shared, so that two concurrent checks do not see each other.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread is starting has inherited the file.
        let _ = self.0.unlock();
    }
}

/// The directory of the socket: `run` in the data home, or, if its path is unsuitable for a socket, a directory under
/// the temp directory that is removed on drop.
#[derive(Debug)]
pub(super) struct SocketDir {
    path: PathBuf,
    temporary: bool,
}

impl SocketDir {
    /// The path of the socket directory.
    pub(super) fn of(home: &Path) -> Result<PathBuf> {
        choose_socket_dir(home, &[&std::env::temp_dir(), Path::new("/tmp")])
            .context("the temp directory (TMPDIR) has a path too long or odd for a Unix socket")
    }

    pub(super) fn prepare(home: &Path, identity: &ProcessIdentity) -> Result<SocketDir> {
        let path = SocketDir::of(home)?;
        identity.make_private_dir(&path)?;
        let temporary = !path.starts_with(home);
        Ok(SocketDir { path, temporary })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket_in(&self.path)
    }
}

/// The socket in this directory.
pub(super) fn socket_in(dir: &Path) -> PathBuf {
    dir.join(SOCKET_NAME)
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn choose_socket_dir(home: &Path, temp_dirs: &[&Path]) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    home.hash(&mut hasher);
    let short = format!("sessiond-{:016x}", hasher.finish());
    let fallbacks = temp_dirs.iter().map(|dir| dir.join(&short));
    std::iter::once(home.join("run")).chain(fallbacks).find(|dir| fits_a_socket(dir))
}

/// Besides being short, the path must be text without a comma: in a connection URL a comma separates hosts, even if
/// encoded.
fn fits_a_socket(dir: &Path) -> bool {
    let length = dir.as_os_str().len() + "/".len() + SOCKET_NAME.len();
    length <= LONGEST_SOCKET && dir.to_str().is_some_and(|text| !text.contains(','))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{choose_socket_dir, fits_a_socket};

    #[test]
    fn a_socket_path_ends_at_103_bytes() {
        assert!(fits_a_socket(Path::new(&"d".repeat(89))));
        assert!(!fits_a_socket(Path::new(&"d".repeat(90))));
    }

    #[test]
    fn a_comma_in_a_socket_path_is_two_hosts() {
        assert!(!fits_a_socket(Path::new("/a,b")));
    }

    #[test]
    fn a_deep_home_gets_a_short_socket_dir_of_its_own() {
        let temps = [Path::new("/t")];
        assert_eq!(choose_socket_dir(Path::new("/h"), &temps), Some(PathBuf::from("/h/run")));
        let deep = |last: &str| Path::new("/").join("d".repeat(100)).join(last);
        let one = choose_socket_dir(&deep("one"), &temps).expect("a short one");
        assert!(one.starts_with("/t"));
        assert_ne!(Some(one), choose_socket_dir(&deep("two"), &temps));
        assert_eq!(choose_socket_dir(&deep("one"), &[&deep("temp")]), None);
    }
}
