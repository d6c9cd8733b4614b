//! The position of the database in the data directory, out of the reach of a restore.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::model::lineage::DatabasePosition;

/// What the file says; `None` if there is none, or nothing that makes sense.
pub(super) fn read(file: &Path) -> Option<DatabasePosition> {
    let text = fs::read(file).ok()?;
    let position = serde_json::from_slice(&text);
    position
        .inspect_err(|error| tracing::warn!(%error, file = %file.display(), "it says no position"))
        .ok()
}

/// Written aside and then renamed: a crash leaves the old or the new one.
pub(super) fn write(file: &Path, position: &DatabasePosition) -> io::Result<()> {
    let aside = file.with_extension(format!("{}.tmp", std::process::id()));
    let mut out = File::create(&aside)?;
    out.write_all(&serde_json::to_vec(position)?)?;
    out.sync_data()?;
    drop(out);
    fs::rename(aside, file)
}
