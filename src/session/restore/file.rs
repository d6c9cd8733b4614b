//! The position of the database in the data directory, which a restore of the database does not change.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::model::lineage::DatabasePosition;

/// The saved position; `None` if there is no file, or it is damaged.
pub(super) fn read(file: &Path) -> Option<DatabasePosition> {
    let text = fs::read(file).ok()?;
    let position = serde_json::from_slice(&text);
    position
        .inspect_err(|error| tracing::warn!(%error, file = %file.display(), "it says no position"))
        .ok()
}

/// Writes a second file and renames it: a crash leaves the old one or the new one.
pub(super) fn write(file: &Path, position: &DatabasePosition) -> io::Result<()> {
    let aside = file.with_extension(format!("{}.tmp", std::process::id()));
    let mut out = File::create(&aside)?;
    out.write_all(&serde_json::to_vec(position)?)?;
    out.sync_data()?;
    drop(out);
    fs::rename(aside, file)
}
