//! The settings for a restored database.

use clap::{Args, ValueEnum};

use crate::model::lineage::OnRestore;

/// The flags.
#[derive(Args, Clone)]
pub struct Restore {
    /// What to do besides the alert when the database was restored from a dump or a backup (docs/RESTORE.md)
    #[arg(long, env = "SESSIOND_ON_RESTORE", global = true, default_value = "alert", value_enum)]
    pub on_restore: OnRestoreFlag,
}

/// `--on-restore`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnRestoreFlag {
    /// Nothing
    Alert,
    /// End all sessions created before the restore
    EndAll,
}

impl From<OnRestoreFlag> for OnRestore {
    fn from(flag: OnRestoreFlag) -> OnRestore {
        match flag {
            OnRestoreFlag::Alert => OnRestore::Alert,
            OnRestoreFlag::EndAll => OnRestore::EndAll,
        }
    }
}
