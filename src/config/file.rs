//! Files that settings name: reads them, checks their permissions, and detects changes.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// Identifies the state of a file, to detect changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of the file at `path`; `None` if its metadata cannot be read.
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

/// Reads a file of at most `most` bytes, with its stamp.
///
/// # Errors
/// If it is no regular file, too large, or cannot be read; the text continues a sentence that begins with its name.
pub fn read(path: &Path, most: u64, shown: &str) -> anyhow::Result<(Vec<u8>, Stamp)> {
    // Checked before it is opened, since opening a pipe would block.
    ensure!(std::fs::metadata(path).context("cannot be read")?.is_file(), "is no file");
    let file = File::open(path).context("cannot be read")?;
    // The stamp of the opened file: a later change gives another stamp.
    let found = file.metadata().context("cannot be read")?;
    ensure!(found.len() <= most, "is larger than {shown}");
    let mut bytes = Vec::with_capacity(usize::try_from(found.len())?);
    file.take(most).read_to_end(&mut bytes).context("cannot be read")?;
    Ok((bytes, Stamp::of(&found)))
}

/// The largest file that may hold a value.
const MOST: u64 = 64 << 10;

/// The only value in a file, without surrounding white space. Unlike [`read`] it also reads a pipe, once.
///
/// # Errors
/// If the file cannot be read or does not hold one line of text; the error names the file and omits its content.
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

/// Refuses a file with a secret that others may read or write.
///
/// # Errors
/// If others have permissions for the file, or it cannot be read; the text is for the operator.
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
