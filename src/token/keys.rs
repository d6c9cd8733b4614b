//! The keys in use, shared: read as a whole from the table, and true within the staleness bound.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cache::progress::RevocationProgress;
use crate::cache::table::{TableCache, TableVersions};
use crate::error::Result;
use crate::store::keys::KeyReader;
use crate::store::pool::Database;
use crate::token::keyring::Keyring;
use crate::token::seal::MasterKey;

/// All keys. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct KeyCache(TableCache<Keyring>);

/// Logs which keys are of a later release, once for as long as they stay the same.
fn report_unknown(keyring: &Keyring, reported: &Mutex<Vec<String>>) {
    let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
    if *reported != keyring.unknown {
        reported.clone_from(&keyring.unknown);
        let kids = keyring.unknown.join(", ");
        tracing::warn!(
            kids,
            "keys of a purpose or algorithm that this release does not know are not used"
        );
    }
}

impl KeyCache {
    /// The keys of `db`, which are there (`key_work`). A change that `changes` counts is seen at once, the rest within
    /// `bound`.
    ///
    /// # Errors
    /// An outage, or keys that `master` does not open.
    pub async fn open(
        db: &Database,
        master: &MasterKey,
        progress: RevocationProgress,
        bound: Duration,
        changes: &TableVersions,
    ) -> Result<KeyCache> {
        let master = master.clone();
        let reader = Arc::new(KeyReader::new(db.clone()));
        let reported = Arc::new(Mutex::new(Vec::new()));
        let read = move |_| {
            let (reader, master, reported) = (reader.clone(), master.clone(), reported.clone());
            async move {
                let keyring = Keyring::load(&reader.read().await?, &master)?;
                report_unknown(&keyring, &reported);
                Ok(keyring)
            }
        };
        let keys =
            KeyCache(TableCache::new(db.clone(), progress, bound, changes.keys.clone(), read));
        keys.get().await?;
        Ok(keys)
    }

    /// The keys, true of a moment not longer ago than the bound. From memory as a rule.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self) -> Result<Arc<Keyring>> {
        self.0.get().await
    }

    /// The same, if they are known.
    pub fn known(&self) -> Option<Arc<Keyring>> {
        self.0.cached()
    }

    /// The keys, as of a moment from now on: for a token whose key is not cached. However many calls ask, the table is
    /// read at most so often.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn reload(&self) -> Result<Arc<Keyring>> {
        self.0.reload().await
    }

    /// What was read last, however long ago: for what carries no authority.
    pub(super) fn latest(&self) -> Arc<Keyring> {
        self.0.latest().expect("opening reads them")
    }
}
