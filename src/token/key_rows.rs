//! The key table in a transaction: read, changed, written back.

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::activity::ActivityKind;
use crate::model::caller::operator::Operator;
use crate::store::changes::Changes;
use crate::store::changes::administration::Administration;
use crate::store::keys::{self, StoredSigningKey};
use crate::store::pool::{Database, Transaction};
use crate::token::key_life::{Life, Purpose};
use crate::token::keyring::{Keyring, life};
use crate::token::seal::MasterKey;

/// All keys, locked.
pub(super) struct Rows {
    tx: Transaction,
    before: Vec<StoredSigningKey>,
    /// The keys as they will be written.
    pub keys: Vec<StoredSigningKey>,
}

impl Rows {
    /// Locks the table. `master` must open every key in it, so that all keys of the table stay under one master key.
    pub async fn lock(db: &Database, master: &MasterKey) -> Result<Rows> {
        let mut tx = db.begin().await?;
        let before = keys::lock(&mut tx).await?;
        if let Err(error) = Keyring::load(&before, master) {
            tx.roll_back().await;
            return Err(error.into());
        }
        Ok(Rows { tx, keys: before.clone(), before })
    }

    /// The number of the next key of a purpose. Numbers are not reused, so the last key of a purpose is never deleted.
    pub fn next_number(&self, purpose: Purpose) -> i16 {
        self.of(purpose).map(|key| key.key_number).max().unwrap_or(0).saturating_add(1)
    }

    /// The keys of a purpose, oldest first.
    pub fn of(&self, purpose: Purpose) -> impl Iterator<Item = &StoredSigningKey> {
        self.keys.iter().filter(move |key| key.purpose == purpose.number())
    }

    /// When the keys of a purpose do what, in the same order.
    pub fn lives(&self, purpose: Purpose) -> Vec<Life> {
        self.of(purpose).filter_map(life).collect()
    }

    /// Sets the times of a purpose's keys.
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

    /// Writes the differences, makes every replica read the table again, and logs the operator.
    pub async fn write(mut self, clock: &Clock, by: &Operator) -> Result<()> {
        let (mut changes, mut done) = (Changes::new(clock), Vec::new());
        let find =
            |keys: &[StoredSigningKey], kid: &str| keys.iter().find(|key| key.kid == kid).cloned();
        for key in &self.keys {
            let change = match find(&self.before, &key.kid) {
                None => Administration::PublishKey(key.clone()),
                Some(before) if before == *key => continue,
                Some(before) => Administration::UpdateKey { before, after: key.clone() },
            };
            done.push((key, change.kind()));
            changes.administer(change, by);
        }
        for old in &self.before {
            if find(&self.keys, &old.kid).is_none() {
                let change = Administration::ForgetKey(old.clone());
                done.push((old, change.kind()));
                changes.administer(change, by);
            }
        }
        changes.write(&mut self.tx).await?;
        self.tx.commit().await?;
        for (key, kind) in done {
            log(kind, key, by);
        }
        Ok(())
    }

    /// Releases the lock without a change.
    pub async fn leave(self) -> Result<()> {
        self.tx.commit().await
    }
}

fn log(kind: ActivityKind, key: &StoredSigningKey, by: &Operator) {
    let what = match kind {
        ActivityKind::SigningKeyPublished => "key published",
        ActivityKind::SigningKeyRemoved => "key removed: what it made is refused",
        ActivityKind::SigningKeyForgotten => "key forgotten: nothing of it can live",
        _ => "key rescheduled",
    };
    let StoredSigningKey { kid, algorithm, purpose, signs_from, retires_at, .. } = key;
    let purpose = Purpose::of(*purpose).map(Purpose::name);
    let time = |at: &Option<Time>| at.map(|at| at.to_rfc3339());
    let (signs_from, retires_at) = (time(signs_from), time(retires_at));
    tracing::info!(kid, purpose, algorithm, signs_from, retires_at, %by, "{what}");
}
