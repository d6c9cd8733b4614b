//! Retires keys in good order, or removes them at once.

use super::{KeyRefusal, KeyWork, Shown, list, shown, waiting};
use crate::clock::Time;
use crate::error::Result;
use crate::store::keys::StoredSigningKey;
use crate::token::jwk::SigningAlgorithm;
use crate::token::key_life::{KeyState, Purpose, remove, take_over};
use crate::token::key_rows::Rows;
use crate::token::new_key::new_key;

/// The result of retiring a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retired {
    /// The first key no longer signs, but verifies until its tokens expire. The second, published long enough, signs.
    Replaced(Shown, Shown),
    /// The first key signs until the second, published now, takes over.
    Until(Shown, Shown),
    /// The first key is refused everywhere within the staleness bound; the second signs.
    Removed(Shown, Shown),
}

impl KeyWork {
    /// Retires a key in good order: it signs until another key can take over, and verifies until everything that it
    /// signed has expired. Removes a key that has not signed yet. A refusal states the reason.
    ///
    /// # Errors
    /// As [`KeyWork::begin`].
    pub async fn retire(&self, kid: &str) -> Result<Result<Retired, KeyRefusal>> {
        let Some((purpose, algorithm)) = self.find(kid).await? else {
            return Ok(Err(unknown(kid)));
        };
        let made = self.make(purpose, algorithm).await?;
        let retiring = async {
            let rows = Rows::lock(&self.db, &self.master).await?;
            let now = self.clock.now();
            let Some(key) = find(&rows, purpose, kid, now)? else {
                rows.leave().await?;
                return Ok(Err(unknown(kid)));
            };
            let refusal = match key.state {
                KeyState::Published => {
                    return self.remove_in(rows, purpose, kid, None).await.map(Ok);
                }
                KeyState::Signing => return self.succeed(rows, key, made).await,
                KeyState::Gone => format!("{kid} is gone already"),
                KeyState::Verifying => format!(
                    "{kid} signs nothing any more, and is gone at {}; --now removes it at once",
                    known(key.life.gone_at())
                ),
            };
            rows.leave().await?;
            Ok(Err(KeyRefusal(refusal)))
        };
        self.db.within(retiring).await
    }

    /// Hands over from a key that signs: at once to a successor that every replica has, or else later to a new one.
    async fn succeed(
        &self,
        mut rows: Rows,
        key: Shown,
        made: Option<StoredSigningKey>,
    ) -> Result<Result<Retired, KeyRefusal>> {
        let (now, purpose) = (self.clock.now(), key.life.purpose);
        let Some(next) = waiting(&rows, purpose, now) else {
            let next = self.publish_in(rows, purpose, made, self.ahead).await?;
            return Ok(Ok(Retired::Until(key, next)));
        };
        let everybody_knows_at = next.life.created_at + self.ahead;
        if everybody_knows_at > now {
            rows.leave().await?;
            return Ok(Err(KeyRefusal(format!(
                "{} signs until {}, when {} takes over: not everybody knows that one before \
                 {everybody_knows_at}; --now removes {0} at once",
                key.kid,
                known(key.life.retires_at),
                next.kid
            ))));
        }
        let mut lives = rows.lives(purpose);
        let which = rows.of(purpose).position(|row| row.kid == key.kid).ok_or_else(lost)?;
        take_over(&mut lives, which, now);
        rows.set_lives(purpose, &lives);
        let old = find(&rows, purpose, &key.kid, now)?.ok_or_else(lost)?;
        let new = find(&rows, purpose, &next.kid, now)?.ok_or_else(lost)?;
        rows.write(&self.clock, &self.by).await?;
        Ok(Ok(Retired::Replaced(old, new)))
    }

    /// Removes a key: everything that it signed is refused everywhere within the staleness bound, and its private part
    /// is destroyed. If it signs, the next key takes over at once, or else a key that is made now.
    ///
    /// # Errors
    /// As [`KeyWork::begin`].
    pub async fn remove(&self, kid: &str) -> Result<Result<Retired, KeyRefusal>> {
        let Some((purpose, algorithm)) = self.find(kid).await? else {
            return Ok(Err(unknown(kid)));
        };
        let made = self.make(purpose, algorithm).await?;
        let removing = async {
            let rows = Rows::lock(&self.db, &self.master).await?;
            let found = find(&rows, purpose, kid, self.clock.now())?;
            if found.is_none_or(|key| key.state == KeyState::Gone) {
                rows.leave().await?;
                return Ok(Err(KeyRefusal(format!("{kid} is gone already"))));
            }
            self.remove_in(rows, purpose, kid, made).await.map(Ok)
        };
        self.db.within(removing).await
    }

    async fn remove_in(
        &self,
        mut rows: Rows,
        purpose: Purpose,
        kid: &str,
        made: Option<StoredSigningKey>,
    ) -> Result<Retired> {
        let now = self.clock.now();
        let mut lives = rows.lives(purpose);
        let which = rows.of(purpose).position(|key| key.kid == kid).ok_or_else(lost)?;
        let signs = remove(&mut lives, which, now);
        rows.set_lives(purpose, &lives);
        if !signs {
            let number = rows.next_number(purpose);
            let key = match made {
                Some(made) => StoredSigningKey { key_number: number, ..made },
                None => new_key(purpose, SigningAlgorithm::EdDsa, number, now, &self.master)?,
            };
            self.place(&mut rows, purpose, key, Some(now))?;
        }
        let removed = find(&rows, purpose, kid, now)?.ok_or_else(lost)?;
        let mut left = shown(&rows, purpose, now).into_iter();
        let signs = left.find(|key| key.state == KeyState::Signing).ok_or_else(lost)?;
        rows.write(&self.clock, &self.by).await?;
        Ok(Retired::Removed(removed, signs))
    }

    async fn find(&self, kid: &str) -> Result<Option<(Purpose, SigningAlgorithm)>> {
        let keys = list(&self.db, self.clock.now()).await?;
        let found = keys.into_iter().find(|key| key.kid == kid);
        Ok(found.map(|key| {
            let algorithm = SigningAlgorithm::named(&key.algorithm);
            (key.life.purpose, algorithm.unwrap_or(SigningAlgorithm::EdDsa))
        }))
    }
}

fn find(rows: &Rows, purpose: Purpose, kid: &str, now: Time) -> Result<Option<Shown>> {
    Ok(shown(rows, purpose, now).into_iter().find(|key| key.kid == kid))
}

fn unknown(kid: &str) -> KeyRefusal {
    KeyRefusal(format!("there is no key {kid}: `sessiond keys list` shows them all"))
}

fn lost() -> anyhow::Error {
    anyhow::anyhow!("a key that is locked is not there")
}

fn known(at: Option<Time>) -> String {
    at.map_or_else(|| "a time not known yet".to_owned(), |at| at.to_string())
}
