//! Files that settings name: what they hold, who may read it, and whether it changed.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// Tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of what is at `path` now; `None` = nothing that can be looked at.
    pub fn at(path: &Path) -> Option<Stamp> {
        std::fs::metadata(path).ok().map(|found| Stamp::of(&found))
    }

    fn of(found: &Metadata) -> Stamp {
        Stamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// Reads all of a file of at most `most` bytes, and the state it is of.
///
/// # Errors
/// What is wrong with it; reads on after its name.
pub fn read(path: &Path, most: u64, shown: &str) -> anyhow::Result<(Vec<u8>, Stamp)> {
    // Asked before it is opened: opening a pipe would wait.
    ensure!(std::fs::metadata(path).context("cannot be read")?.is_file(), "is no file");
    let file = File::open(path).context("cannot be read")?;
    // Of the file that was opened: one that changes from here on differs from this the next time.
    let found = file.metadata().context("cannot be read")?;
    ensure!(found.len() <= most, "is larger than {shown}");
    let mut bytes = Vec::with_capacity(usize::try_from(found.len())?);
    file.take(most).read_to_end(&mut bytes).context("cannot be read")?;
    Ok((bytes, Stamp::of(&found)))
}

/// Larger than any value that stands alone in a file.
const MOST: u64 = 64 << 10;

/// The one value that a file holds, without the space around it. Unlike [`read`] it also reads a pipe, once.
///
/// # Errors
/// A sentence that names the file and what is wrong with it, and repeats nothing of what it holds.
pub fn value(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let cannot = || format!("cannot read {shown}");
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(MOST + 1).read_to_end(&mut bytes).with_context(cannot)?;
    ensure!(bytes.len() as u64 <= MOST, "{shown} is larger than {} KiB", MOST >> 10);
    let Ok(text) = String::from_utf8(bytes) else { bail!("{shown} is not UTF-8 text") };
    ensure!(
        !text.starts_with('\u{feff}'),
        "{shown} begins with a byte order mark: write it as UTF-8 without one"
    );
    let value = text.trim();
    ensure!(!value.is_empty(), "{shown} is empty");
    ensure!(!value.contains(['\n', '\r']), "{shown} holds more than one line");
    ensure!(!value.contains(char::is_control), "{shown} holds control characters");
    Ok(value.to_owned())
}

/// Holds a file of a secret to its rule.
///
/// # Errors
/// A sentence that names the file and says what to do.
pub fn refuse_if_readable_by_others(file: &Path) -> anyhow::Result<()> {
    let mode = std::fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .permissions()
        .mode();
    if mode & 0o007 != 0 {
        bail!("{} may be read by others: chmod 600 {0}", file.display());
    }
    Ok(())
}
