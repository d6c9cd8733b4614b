//! Where the master key comes from: given, or made once in the data directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use crate::config::Config;
use crate::token::seal::MasterKey;

/// The master key that `config` gives, or the one in `data_dir`, made now if there is none.
///
/// # Errors
/// A key that breaks its rule, or a file that others may read.
pub fn load(config: &Config, data_dir: &Path) -> anyhow::Result<MasterKey> {
    if let Some(file) = &config.master_key_file {
        refuse_if_readable_by_others(file)?;
    }
    if let Some(text) = config.master_key()? {
        return MasterKey::parse(&text).map_err(|rule| anyhow!("--master-key {rule}"));
    }
    let file = data_dir.join("master.key");
    if !file.exists() {
        create(&file).with_context(|| format!("cannot make {}", file.display()))?;
        tracing::warn!(
            file = %file.display(),
            "made a master key; keep it: without it the signing keys in the database are lost"
        );
    }
    refuse_if_readable_by_others(&file)?;
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    MasterKey::parse(&text).map_err(|rule| anyhow!("the key in {} {rule}", file.display()))
}

/// Written aside and then renamed: a crash leaves a whole key or none.
fn create(file: &Path) -> anyhow::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    let aside = file.with_extension("tmp");
    let mut out =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    writeln!(out, "{}", MasterKey::generate())?;
    out.sync_all()?;
    Ok(fs::rename(aside, file)?)
}

fn refuse_if_readable_by_others(file: &Path) -> anyhow::Result<()> {
    let mode = fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .permissions()
        .mode();
    if mode & 0o007 != 0 {
        bail!("{} may be read by others: chmod 600 {0}", file.display());
    }
    Ok(())
}
