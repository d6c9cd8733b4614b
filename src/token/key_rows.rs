//! The key table in a transaction: read, arranged, written back.

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::store::changes::Changes;
use crate::store::keys::{self, StoredKey};
use crate::store::pool::{Database, Transaction};
use crate::token::key_life::{Life, Purpose};
use crate::token::keyring::{Keyring, life};
use crate::token::seal::MasterKey;

/// All keys, locked.
pub(super) struct Rows {
    tx: Transaction,
    before: Vec<StoredKey>,
    /// As they are to be.
    pub keys: Vec<StoredKey>,
}

impl Rows {
    /// Locks the table, of which `master` must open every key: nothing is added that replicas cannot open, or to what
    /// they cannot.
    pub async fn lock(db: &Database, master: &MasterKey) -> Result<Rows> {
        let mut tx = db.begin().await?;
        let before = keys::lock(&mut tx).await?;
        if let Err(error) = Keyring::load(&before, master) {
            tx.roll_back().await;
            return Err(error.into());
        }
        Ok(Rows { tx, keys: before.clone(), before })
    }

    /// The number of the next key of a purpose: none is given twice, so the last key of each is never forgotten.
    pub fn next_number(&self, purpose: Purpose) -> i16 {
        self.of(purpose).map(|key| key.key_number).max().unwrap_or(0).saturating_add(1)
    }

    /// The keys of a purpose, oldest first.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &StoredKey> {
        self.keys.iter().filter(move |key| key.purpose == purpose.number())
    }

    /// When the keys of a purpose do what, in the same order.
    pub fn lives(&self, purpose: Purpose) -> Result<Vec<Life>> {
        Ok(self.of(purpose).map(life).collect::<anyhow::Result<_>>()?)
    }

    /// Takes over what the keys of a purpose do when.
    pub fn set_lives(&mut self, purpose: Purpose, lives: &[Life]) {
        let keys = self.keys.iter_mut().filter(|key| key.purpose == purpose.number());
        for (key, life) in keys.zip(lives) {
            (key.signs_from, key.retires_at) = (life.signs_from, life.retires_at);
            key.removed_at = life.removed_at;
            if life.removed_at.is_some() {
                // Nobody can want it back.
                key.sealed_private_key.clear();
            }
        }
    }

    /// Writes what differs, has every replica read the table again, and logs what was done by whom.
    pub async fn write(mut self, clock: &Clock, by: &str) -> Result<()> {
        let (mut changes, mut done) = (Changes::new(clock), Vec::new());
        for key in &self.keys {
            let old = self.before.iter().find(|old| old.kid == key.kid);
            match old {
                None => keys::add(&mut self.tx, key).await?,
                Some(old) if old == key => continue,
                Some(_) => keys::put(&mut self.tx, key).await?,
            }
            let removed = old.is_some_and(|old| old.removed_at != key.removed_at);
            match removed {
                true => changes.remove_key(&key.kid),
                false => changes.change_key(&key.kid),
            }
            done.push(match old {
                None => ("key published", key),
                Some(_) if removed => ("key removed: what it made is refused", key),
                Some(_) => ("key rescheduled", key),
            });
        }
        for old in &self.before {
            if !self.keys.iter().any(|key| key.kid == old.kid) {
                keys::forget(&mut self.tx, &old.kid).await?;
                done.push(("key forgotten: nothing of it can live", old));
            }
        }
        changes.write(&mut self.tx).await?;
        self.tx.commit().await?;
        for (what, key) in done {
            log(what, key, by);
        }
        Ok(())
    }

    /// Lets go of the table as it is.
    pub async fn leave(self) -> Result<()> {
        self.tx.commit().await
    }
}

fn log(what: &'static str, key: &StoredKey, by: &str) {
    let StoredKey { kid, algorithm, purpose, signs_from, retires_at, .. } = key;
    let purpose = Purpose::of(*purpose).map(Purpose::name);
    let time = |at: &Option<Time>| at.map(|at| at.to_rfc3339());
    let (signs_from, retires_at) = (time(signs_from), time(retires_at));
    tracing::info!(kid, purpose, algorithm, signs_from, retires_at, by, "{what}");
}
