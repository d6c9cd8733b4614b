//! One file, with its last good content in memory.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use anyhow::{Context, ensure};
use maxminddb::{LookupResult, PathElement, Reader};
use serde::Deserialize;

use crate::config::file::{self, Stamp};

/// The largest file, in bytes. Its content is in memory, and twice during a reload.
const MAX_BYTES: u64 = 1 << 30;

/// A file that is read again when it changes.
pub struct LocationSource {
    flag: &'static str,
    /// The file's own type contains one of these.
    types: &'static [&'static str],
    file: PathBuf,
    data: RwLock<Arc<LocationData>>,
    /// The file that was read last, good or not; `None` = there was none.
    seen: Mutex<Option<Stamp>>,
}

/// The content of a verified file.
pub struct LocationData(Reader<Vec<u8>>);

/// The record of one address.
pub struct LocationEntry<'a>(LookupResult<'a, Vec<u8>>);

impl LocationSource {
    /// Reads `file` as the value of `flag`.
    ///
    /// # Errors
    /// A sentence that names both.
    pub fn open(
        flag: &'static str,
        types: &'static [&'static str],
        file: PathBuf,
    ) -> anyhow::Result<LocationSource> {
        let (data, stamp) =
            load(&file, types).with_context(|| format!("{flag} {}", file.display()))?;
        let (data, seen) = (RwLock::new(Arc::new(data)), Mutex::new(Some(stamp)));
        Ok(LocationSource { flag, types, file, data, seen })
    }

    /// The last good content.
    pub fn read(&self) -> Arc<LocationData> {
        self.data.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again if it has changed.
    pub fn reload(&self) {
        let mut seen = self.seen();
        let there = Stamp::at(&self.file);
        if *seen == there {
            return;
        }
        *seen = there;
        let (flag, file) = (self.flag, self.file.display());
        match load(&self.file, self.types) {
            Ok((data, stamp)) => {
                *seen = Some(stamp);
                *self.data.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(data);
                tracing::info!(flag, %file, "read the new locations");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(flag, %file, error, "cannot use the new locations; the old stay");
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Option<Stamp>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocationData {
    /// Passes the record of `ip` to `show`, if there is one.
    pub fn entry(&self, ip: IpAddr, show: impl FnOnce(&LocationEntry<'_>)) {
        // The error is an IPv6 address in a file for IPv4 alone.
        if let Ok(found) = self.0.lookup(ip) {
            show(&LocationEntry(found));
        }
    }
}

impl<'a> LocationEntry<'a> {
    /// A field of the record; `None` if it is absent, or of another type.
    pub fn part<T: Deserialize<'a>>(&self, path: &[PathElement<'_>]) -> Option<T> {
        self.0.decode_path(path).ok().flatten()
    }
}

/// Reads and verifies a file.
fn load(path: &Path, types: &[&str]) -> anyhow::Result<(LocationData, Stamp)> {
    let (bytes, stamp) = file::read(path, MAX_BYTES, "1 GiB")?;
    let damaged = "is no sound file in MaxMind's format";
    let reader = Reader::from_source(bytes).context(damaged)?;
    reader.verify().context(damaged)?;
    let stated = &reader.metadata().database_type;
    let fits = types.iter().any(|name| stated.contains(name));
    ensure!(fits, "is of type {stated:?}, not of {}", types.join(" or "));
    Ok((LocationData(reader), stamp))
}
