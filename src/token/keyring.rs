//! All keys of the table as of one moment. `keys` shares a keyring and reloads it when the table changes.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use aws_lc_rs::hmac;

use crate::clock::Time;
use crate::store::keys::StoredSigningKey;
use crate::token::derived::DerivedKey;
use crate::token::jwk::{Jwk, SigningAlgorithm, VerifyingKey};
use crate::token::key_life::{Life, Purpose, signer};
use crate::token::pair::Pair;
use crate::token::seal::MasterKey;

/// How the algorithm of a MAC key is stored.
pub(super) const MAC_ALGORITHM: &str = "HS256";

/// All keys of the service. Nothing in it can be printed.
pub struct Keyring {
    /// Oldest first. Few enough for a linear search.
    access: Vec<AccessKey>,
    macs: Vec<MacKey>,
    /// Key ids whose purpose or algorithm is of another release.
    pub(super) unknown: Vec<String>,
}

/// A key that signs and verifies access tokens.
pub(super) struct AccessKey {
    pub kid: Arc<str>,
    pub life: Life,
    pub pair: Pair,
    pub verifying: VerifyingKey,
    jwk: Jwk,
}

/// What a key is made for, as far as this release knows.
enum KeyKind {
    Signing(SigningAlgorithm),
    Mac,
}

impl KeyKind {
    fn of(key: &StoredSigningKey) -> Option<KeyKind> {
        match Purpose::of(key.purpose)? {
            Purpose::Access => SigningAlgorithm::named(&key.algorithm).map(KeyKind::Signing),
            Purpose::Refresh => (key.algorithm == MAC_ALGORITHM).then_some(KeyKind::Mac),
        }
    }
}

struct MacKey {
    number: i16,
    life: Life,
    key: hmac::Key,
}

impl Keyring {
    /// Opens the keys of the table. Those that were removed are left out, and those of a purpose or an algorithm that
    /// only a later release knows: this one goes on with the keys that it knows.
    ///
    /// # Errors
    /// If `master` does not open a key, or a key is damaged.
    pub fn load(stored: &[StoredSigningKey], master: &MasterKey) -> anyhow::Result<Keyring> {
        let mut keyring = Keyring { access: Vec::new(), macs: Vec::new(), unknown: Vec::new() };
        for key in stored.iter().filter(|key| key.removed_at.is_none()) {
            let Some((life, kind)) = life(key).zip(KeyKind::of(key)) else {
                keyring.unknown.push(key.kid.clone());
                continue;
            };
            let secret = master.open(&key.kid, &key.sealed_private_key).ok_or_else(|| {
                anyhow!(
                    "the master key does not open signing key {}: this database was set up with \
                     another one (SESSIOND_MASTER_KEY or SESSIOND_MASTER_KEY_FILE; without them, \
                     master.key in the data directory)",
                    key.kid
                )
            })?;
            match kind {
                KeyKind::Mac => {
                    let mac = hmac::Key::new(hmac::HMAC_SHA256, &secret);
                    keyring.macs.push(MacKey { number: key.key_number, life, key: mac });
                }
                KeyKind::Signing(algorithm) => {
                    let opened = AccessKey::open(key, algorithm, life, &secret);
                    let opened = opened.with_context(|| format!("signing key {}", key.kid))?;
                    keyring.access.push(opened);
                }
            }
        }
        Ok(keyring)
    }

    /// The key that signs access tokens at `now`. There is one unless the table was changed from outside.
    pub(super) fn signing(&self, now: Time) -> anyhow::Result<&AccessKey> {
        let which = signer(self.access.iter().map(|key| &key.life), now);
        let which = which.context("no key signs access tokens: run `sessiond keys rotate`")?;
        Ok(&self.access[which])
    }

    /// The key with this id, if it may still verify at `now`.
    pub(super) fn verifying(&self, kid: &str, now: Time) -> Option<&AccessKey> {
        self.access.iter().find(|key| &*key.kid == kid).filter(|key| key.life.verifies(now))
    }

    /// The public keys that verify at `now` or will, oldest first.
    pub fn published(&self, now: Time) -> Vec<Jwk> {
        let known = self.access.iter().filter(|key| key.life.verifies(now));
        known.map(|key| key.jwk.clone()).collect()
    }

    /// The number of the MAC key of generations that begin at `now`.
    pub(super) fn current_mac(&self, now: Time) -> anyhow::Result<i16> {
        let which = signer(self.macs.iter().map(|key| &key.life), now);
        let which = which
            .context("no key for refresh tokens: run `sessiond keys rotate --purpose refresh`")?;
        Ok(self.macs[which].number)
    }

    /// The MAC key with this number, unless it is gone at `now`.
    pub(super) fn mac(&self, number: i16, now: Time) -> Option<&hmac::Key> {
        let found = self.macs.iter().find(|key| key.number == number);
        found.filter(|key| key.life.verifies(now)).map(|key| &key.key)
    }

    /// Keys for `purpose`, derived from the MAC keys, so the same on every replica: the present one writes, and each
    /// that is not gone at `now` reads.
    pub(super) fn derive(&self, purpose: &str, now: Time) -> anyhow::Result<DerivedKey> {
        let current = self.current_mac(now)?;
        let mut macs: Vec<&MacKey> =
            self.macs.iter().filter(|key| key.life.verifies(now)).collect();
        macs.sort_by_key(|key| (key.number != current, -key.number));
        let derive = |mac: &MacKey| hmac::sign(&mac.key, purpose.as_bytes());
        let derived = macs.into_iter().map(derive);
        Ok(DerivedKey::of(derived.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))))
    }
}

impl AccessKey {
    fn open(
        key: &StoredSigningKey,
        algorithm: SigningAlgorithm,
        life: Life,
        secret: &[u8],
    ) -> anyhow::Result<AccessKey> {
        let pair = Pair::open(algorithm, secret).context("it is damaged")?;
        let (_, public) = pair.public()?;
        let verifying = public.verifying()?;
        let jwk = Jwk { kid: key.kid.clone(), key: public };
        Ok(AccessKey { kid: key.kid.as_str().into(), life, pair, verifying, jwk })
    }
}

/// When a stored key does what; `None` for a purpose that this release does not know.
pub(super) fn life(key: &StoredSigningKey) -> Option<Life> {
    Some(Life {
        purpose: Purpose::of(key.purpose)?,
        created_at: key.created_at,
        signs_from: key.signs_from,
        retires_at: key.retires_at,
        removed_at: key.removed_at,
    })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};

    use super::*;
    use crate::token::new_key::new_key;

    fn now() -> Time {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn master() -> MasterKey {
        MasterKey::parse(&MasterKey::generate()).unwrap()
    }

    fn key(master: &MasterKey, purpose: Purpose, algorithm: SigningAlgorithm) -> StoredSigningKey {
        new_key(purpose, algorithm, 1, now(), master).unwrap()
    }

    #[test]
    fn another_master_key_is_refused_with_advice() {
        let (right, wrong) = (master(), master());
        let stored = Purpose::ALL.map(|purpose| key(&right, purpose, SigningAlgorithm::EdDsa));
        assert!(Keyring::load(&stored, &right).is_ok());
        let error = Keyring::load(&stored, &wrong).err().unwrap().to_string();
        assert!(error.contains("SESSIOND_MASTER_KEY"), "{error}");
    }

    #[test]
    fn a_key_of_a_later_release_is_skipped() {
        let master = master();
        let known = Purpose::ALL.map(|purpose| key(&master, purpose, SigningAlgorithm::EdDsa));
        let [access, refresh] = &known;
        let later = [
            StoredSigningKey { kid: "a".to_owned(), purpose: 3, ..access.clone() },
            StoredSigningKey {
                kid: "b".to_owned(),
                algorithm: "ES384".to_owned(),
                ..access.clone()
            },
            StoredSigningKey {
                kid: "c".to_owned(),
                algorithm: "HS512".to_owned(),
                ..refresh.clone()
            },
        ];
        let all: Vec<_> = known.iter().chain(&later).cloned().collect();
        let keyring = Keyring::load(&all, &master).unwrap();
        assert_eq!(keyring.unknown, ["a", "b", "c"]);
        assert_eq!(*keyring.signing(now()).unwrap().kid, *access.kid);
        assert_eq!(keyring.published(now()).len(), 1);
        assert!(keyring.mac(refresh.key_number, now()).is_some());
    }

    #[test]
    fn each_algorithm_signs_and_its_public_key_alone_verifies() {
        let master = master();
        for algorithm in SigningAlgorithm::ALL {
            let stored = key(&master, Purpose::Access, algorithm);
            let keyring = Keyring::load(&[stored], &master).unwrap();
            let signing = keyring.signing(now()).unwrap();
            let published = keyring.published(now()).pop().unwrap();
            assert_eq!((&*published.kid, published.key.algorithm()), (&*signing.kid, algorithm));
            assert_eq!(published.kid, published.key.thumbprint());
        }
    }

    #[test]
    fn derived_texts_are_read_until_their_mac_key_is_gone() {
        let master = master();
        let mut first = key(&master, Purpose::Refresh, SigningAlgorithm::EdDsa);
        let before = Keyring::load(std::slice::from_ref(&first), &master).unwrap();
        let written = before.derive("text", now()).unwrap().sign(b"text");
        let switch = now() + Duration::minutes(10);
        first.retires_at = Some(switch);
        let mut second =
            new_key(Purpose::Refresh, SigningAlgorithm::EdDsa, 2, now(), &master).unwrap();
        second.signs_from = Some(switch);
        let after = Keyring::load(&[first.clone(), second.clone()], &master).unwrap();
        assert_eq!(after.derive("text", now()).unwrap().sign(b"text").as_ref(), written.as_ref());
        let derived = after.derive("text", switch).unwrap();
        assert_ne!(derived.sign(b"text").as_ref(), written.as_ref());
        assert!(derived.find(b"text", |mac| mac.as_ref() == written.as_ref()).is_some());
        let gone = switch + Duration::days(366);
        let later = after.derive("text", gone).unwrap();
        assert!(later.find(b"text", |mac| mac.as_ref() == written.as_ref()).is_none());
        assert!(after.mac(1, switch).is_some() && after.mac(1, gone).is_none());
        assert_eq!((after.current_mac(now()).unwrap(), after.current_mac(switch).unwrap()), (1, 2));
    }
}
