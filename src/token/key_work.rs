//! The work on keys: make the first ones, publish successors, retire, remove, delete old ones. Each is one transaction
//! under a lock, so of several concurrent attempts one succeeds.

mod retire;

use std::time::Duration;

use chrono::Duration as Length;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::caller::operator::Operator;
use crate::store::keys::StoredSigningKey;
use crate::store::pool::Database;
use crate::token::jwk::SigningAlgorithm;
use crate::token::key_life::{KeyState, Life, Purpose, add, signing};
use crate::token::key_rows::Rows;
use crate::token::keyring::life;
use crate::token::new_key::new_key;
use crate::token::seal::MasterKey;

pub use retire::Retired;

/// How long a key that is gone is still shown.
const SHOWN: Length = Length::days(7);

/// Works on the keys of a database.
#[derive(Clone)]
pub struct KeyWork {
    db: Database,
    master: MasterKey,
    clock: Clock,
    ahead: Length,
    by: Operator,
}

/// A key as operators see it: no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub kid: String,
    pub algorithm: String,
    pub life: Life,
    pub state: KeyState,
}

/// The reason why nothing was done, as a plain sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRefusal(pub String);

impl Shown {
    fn signs(&self, purpose: Purpose) -> bool {
        self.life.purpose == purpose && self.state == KeyState::Signing
    }
}

impl KeyWork {
    /// Works on `db` in the name of `by`. Successors are published for `ahead` before they sign.
    pub fn new(
        db: Database,
        master: MasterKey,
        clock: Clock,
        ahead: Duration,
        by: Operator,
    ) -> KeyWork {
        let ahead = Length::from_std(ahead).unwrap_or(Length::days(30));
        KeyWork { db, master, clock, ahead, by }
    }

    /// Makes a key for each purpose without a signing key; it signs at once. `algorithm` is that of access tokens.
    ///
    /// # Errors
    /// If the database cannot be reached, or the master key does not open a key.
    pub async fn begin(&self, algorithm: SigningAlgorithm) -> Result<()> {
        let now = self.clock.now();
        let keys = list(&self.db, now).await?;
        if Purpose::ALL.into_iter().all(|purpose| keys.iter().any(|key| key.signs(purpose))) {
            return Ok(());
        }
        let beginning = async {
            let mut rows = Rows::lock(&self.db, &self.master).await?;
            let now = self.clock.now();
            for purpose in Purpose::ALL {
                if signing(&rows.lives(purpose), now).is_none() {
                    let number = rows.next_number(purpose);
                    let key = new_key(purpose, algorithm, number, now, &self.master)?;
                    self.place(&mut rows, purpose, key, None)?;
                }
            }
            rows.write(&self.clock, &self.by).await
        };
        self.db.within(beginning).await
    }

    /// Publishes a key that signs after the time `after`; the key before it retires then.
    ///
    /// # Errors
    /// As [`KeyWork::begin`].
    pub async fn publish(
        &self,
        purpose: Purpose,
        algorithm: SigningAlgorithm,
        after: Length,
    ) -> Result<Shown> {
        let made = self.make(purpose, algorithm).await?;
        let publishing = async {
            let rows = Rows::lock(&self.db, &self.master).await?;
            self.publish_in(rows, purpose, made, after).await
        };
        self.db.within(publishing).await
    }

    /// Publishes a successor, which takes over after the time `ahead`, with the algorithm of the present key unless
    /// another is given. Refuses if a successor is already waiting.
    ///
    /// # Errors
    /// As [`KeyWork::begin`].
    pub async fn rotate(
        &self,
        purpose: Purpose,
        algorithm: Option<SigningAlgorithm>,
    ) -> Result<Result<Shown, KeyRefusal>> {
        let algorithm = match algorithm {
            Some(algorithm) => algorithm,
            None => self.present_algorithm(purpose).await?,
        };
        let made = self.make(purpose, algorithm).await?;
        let rotating = async {
            let rows = Rows::lock(&self.db, &self.master).await?;
            let now = self.clock.now();
            // A standby for later does not count.
            let waiting = waiting(&rows, purpose, now);
            if let Some(waiting) = waiting.filter(|key| key.life.begins() <= now + self.ahead) {
                rows.leave().await?;
                return Ok(Err(KeyRefusal(format!(
                    "{} is published already and takes over at {}",
                    waiting.kid,
                    waiting.life.since()
                ))));
            }
            self.publish_in(rows, purpose, made, self.ahead).await.map(Ok)
        };
        self.db.within(rotating).await
    }

    /// Publishes a successor if the newest key has signed for `age`; of several concurrent calls one does. Does nothing
    /// while the time is in doubt.
    ///
    /// # Errors
    /// As [`KeyWork::begin`].
    pub async fn rotate_if_older(&self, purpose: Purpose, age: Length) -> Result<Option<Shown>> {
        let Some(now) = self.clock.settled() else { return Ok(None) };
        let keys = list(&self.db, now).await?;
        let keys = keys.iter().map(|key| key.life).filter(|life| life.purpose == purpose);
        if !self.is_due(&keys.collect::<Vec<_>>(), age, now) {
            return Ok(None);
        }
        let algorithm = self.present_algorithm(purpose).await?;
        let made = self.make(purpose, algorithm).await?;
        let rotating = async {
            let rows = Rows::lock(&self.db, &self.master).await?;
            // Another replica may have been first.
            if !self.is_due(&rows.lives(purpose), age, now) {
                rows.leave().await?;
                return Ok(None);
            }
            self.publish_in(rows, purpose, made, self.ahead).await.map(Some)
        };
        self.db.within(rotating).await
    }

    /// Deletes the keys that have been gone for a week; none while the time is in doubt.
    ///
    /// # Errors
    /// As [`KeyWork::begin`].
    pub async fn forget_gone(&self) -> Result<()> {
        let Some(now) = self.clock.settled() else { return Ok(()) };
        if !list(&self.db, now).await?.iter().any(|key| forgettable(key, now)) {
            return Ok(());
        }
        let forgetting = async {
            let mut rows = Rows::lock(&self.db, &self.master).await?;
            let mut forgotten = Vec::new();
            for purpose in Purpose::ALL {
                // The last one stays, so that no number is given twice.
                let keys = shown(&rows, purpose, now);
                let old = keys.iter().rev().skip(1).filter(|key| forgettable(key, now));
                forgotten.extend(old.map(|key| key.kid.clone()));
            }
            rows.keys.retain(|key| !forgotten.contains(&key.kid));
            rows.write(&self.clock, &self.by).await
        };
        self.db.within(forgetting).await
    }

    async fn publish_in(
        &self,
        mut rows: Rows,
        purpose: Purpose,
        made: Option<StoredSigningKey>,
        after: Length,
    ) -> Result<Shown> {
        let now = self.clock.now();
        let number = rows.next_number(purpose);
        let key = match made {
            Some(made) => StoredSigningKey { key_number: number, created_at: now, ..made },
            None => new_key(purpose, SigningAlgorithm::EdDsa, number, now, &self.master)?,
        };
        let kid = key.kid.clone();
        self.place(&mut rows, purpose, key, Some(now + after))?;
        let shown = shown(&rows, purpose, now).into_iter().find(|shown| shown.kid == kid);
        rows.write(&self.clock, &self.by).await?;
        Ok(shown.ok_or_else(|| anyhow::anyhow!("the key was just added"))?)
    }

    /// Adds a key to the sequence of its purpose.
    fn place(
        &self,
        rows: &mut Rows,
        purpose: Purpose,
        key: StoredSigningKey,
        from: Option<Time>,
    ) -> Result<()> {
        let now = self.clock.now();
        let mut lives = rows.lives(purpose);
        add(
            &mut lives,
            Life { signs_from: from, ..life(&key).expect("the purpose is known") },
            now,
        );
        rows.keys.push(key);
        rows.set_lives(purpose, &lives);
        Ok(())
    }

    /// An access-token key may take up to a second to make, so it is made before the table is locked.
    async fn make(
        &self,
        purpose: Purpose,
        algorithm: SigningAlgorithm,
    ) -> Result<Option<StoredSigningKey>> {
        if purpose == Purpose::Refresh {
            return Ok(None);
        }
        let (now, master) = (self.clock.now(), self.master.clone());
        let making = move || new_key(purpose, algorithm, 0, now, &master);
        let made = tokio::task::spawn_blocking(making).await;
        Ok(Some(made.map_err(|error| anyhow::anyhow!("making a key: {error}"))??))
    }

    /// True if the newest key has signed for `age`. A key that begins later than `ahead` from now is a standby and not
    /// counted.
    fn is_due(&self, lives: &[Life], age: Length, now: Time) -> bool {
        let there = lives.iter().filter(|life| life.removed_at.is_none());
        let usual = there.filter(|life| life.begins() <= now + self.ahead);
        usual.map(Life::since).max().is_none_or(|since| since + age <= now)
    }

    async fn present_algorithm(&self, purpose: Purpose) -> Result<SigningAlgorithm> {
        let keys = list(&self.db, self.clock.now()).await?;
        let present = keys.iter().find(|key| key.signs(purpose));
        let named = present.and_then(|key| SigningAlgorithm::named(&key.algorithm));
        Ok(named.unwrap_or(SigningAlgorithm::EdDsa))
    }
}

/// All keys whose purpose this release knows, oldest first, as of `now`. Needs no master key.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn list(db: &Database, now: Time) -> Result<Vec<Shown>> {
    let reading = async { crate::store::keys::all(&mut *db.acquire().await?).await };
    let keys = db.within(reading).await?;
    Ok(keys.iter().filter_map(|key| show(key, now)).collect())
}

fn forgettable(key: &Shown, now: Time) -> bool {
    key.life.gone_at().is_some_and(|at| at + SHOWN <= now)
}

fn shown(rows: &Rows, purpose: Purpose, now: Time) -> Vec<Shown> {
    rows.of(purpose).filter_map(|key| show(key, now)).collect()
}

fn show(key: &StoredSigningKey, now: Time) -> Option<Shown> {
    let life = life(key)?;
    let (kid, algorithm) = (key.kid.clone(), key.algorithm.clone());
    Some(Shown { kid, algorithm, life, state: life.state(now) })
}

/// The key of a purpose that takes over next.
fn waiting(rows: &Rows, purpose: Purpose, now: Time) -> Option<Shown> {
    let waiting = shown(rows, purpose, now).into_iter();
    let waiting = waiting.filter(|key| key.state == KeyState::Published);
    waiting.min_by_key(|key| key.life.begins())
}
