//! The keys in use: a cache of the whole key table, no older than the staleness bound.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cache::progress::RevocationProgress;
use crate::cache::table::{TableCache, TableVersions};
use crate::error::Result;
use crate::store::keys::KeyReader;
use crate::store::pool::Database;
use crate::token::keyring::Keyring;
use crate::token::seal::MasterKey;

/// The key cache. Cheap to clone; clones share their contents.
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
    /// Caches the keys of `db`, which `key_work` has made. A change counted by `changes` is seen at once, any other
    /// within `bound`.
    ///
    /// If the database cannot be reached, or `master` does not open a key.
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

    /// The keys, no older than the bound. Usually from the cache.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self) -> Result<Arc<Keyring>> {
        self.0.get().await
    }

    /// The same, if they are cached.
    pub fn known(&self) -> Option<Arc<Keyring>> {
        self.0.cached()
    }

    /// The keys as of a moment after the call, for a token whose key is not cached. The rate of reads is limited,
    /// however many calls need one.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn reload(&self) -> Result<Arc<Keyring>> {
        self.0.reload().await
    }

    /// The keys that were read last, of whatever age: for texts that carry no authority.
    pub(super) fn latest(&self) -> Arc<Keyring> {
        self.0.latest().expect("opening reads them")
    }
}
