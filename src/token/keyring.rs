//! The keys in use: made on first start, shared through the database, sealed there.

use std::collections::HashMap;

use anyhow::{Context, anyhow};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use crate::clock::Clock;
use crate::error::Result;
use crate::store::keys::{self, StoredKey};
use crate::store::pool::Database;
use crate::token::seal::MasterKey;

const ACCESS: i16 = 1;
const REFRESH: i16 = 2;

/// All keys of the service. Nothing in it can be printed.
pub struct Keyring {
    signing: SigningKey,
    verifying: HashMap<String, VerifyingKey>,
    published: Vec<PublicKey>,
    macs: HashMap<i16, hmac::Key>,
    current_mac: i16,
}

/// What signs access tokens.
pub struct SigningKey {
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) encoding: EncodingKey,
}

/// What verifies them.
pub struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl VerifyingKey {
    /// An Ed25519 key by its point, base64url.
    ///
    /// # Errors
    /// It is no base64url.
    pub fn ed25519(x: &str) -> anyhow::Result<VerifyingKey> {
        let decoding = DecodingKey::from_ed_components(x).context("a public key")?;
        Ok(VerifyingKey { algorithm: Algorithm::EdDSA, decoding })
    }
}

/// A public key as RFC 8037 writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The 32 bytes of the Ed25519 point, base64url.
    pub x: String,
}

impl Keyring {
    /// Loads the keys, making the first ones if there are none.
    ///
    /// # Errors
    /// An outage, or keys that `master` does not open.
    pub async fn open(db: &Database, master: &MasterKey, clock: &Clock) -> Result<Keyring> {
        let mut conn = db.acquire().await?;
        let mut stored = keys::all(&mut conn).await?;
        if !stored.iter().any(|key| key.purpose == ACCESS) {
            keys::add(&mut conn, &new_signing_key(master, clock)?).await?;
        }
        if !stored.iter().any(|key| key.purpose == REFRESH) {
            keys::add(&mut conn, &new_mac_key(master, clock)?).await?;
        }
        // Another replica may have been first: what counts is what the table holds.
        stored = keys::all(&mut conn).await?;
        Ok(Keyring::load(&stored, master)?)
    }

    fn load(stored: &[StoredKey], master: &MasterKey) -> anyhow::Result<Keyring> {
        let mut signing = None;
        let mut verifying = HashMap::new();
        let mut published = Vec::new();
        let mut macs = HashMap::new();
        for key in stored {
            let secret = master.open(&key.kid, &key.sealed_private_key).ok_or_else(|| {
                anyhow!(
                    "the master key does not open signing key {}: this database was set up with \
                     another one (SESSIOND_MASTER_KEY or SESSIOND_MASTER_KEY_FILE; without them, \
                     master.key in the data directory)",
                    key.kid
                )
            })?;
            if key.purpose == REFRESH {
                macs.insert(key.key_number, hmac::Key::new(hmac::HMAC_SHA256, &secret));
                continue;
            }
            Ed25519KeyPair::from_pkcs8(&secret)
                .map_err(|_| anyhow!("signing key {} is damaged", key.kid))?;
            let x = URL_SAFE_NO_PAD.encode(&key.public_key);
            let algorithm = Algorithm::EdDSA;
            verifying.insert(key.kid.clone(), VerifyingKey::ed25519(&x)?);
            published.push(PublicKey { kid: key.kid.clone(), x });
            let encoding = EncodingKey::from_ed_der(&secret);
            signing = Some(SigningKey { kid: key.kid.clone(), algorithm, encoding });
        }
        let current_mac = macs.keys().copied().max().context("no key for refresh tokens")?;
        let signing = signing.context("no key for access tokens")?;
        Ok(Keyring { signing, verifying, published, macs, current_mac })
    }

    /// The key that signs now.
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The key with this id, if it may still verify.
    pub fn verifying(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifying.get(kid)
    }

    /// The public keys, oldest first.
    pub fn published(&self) -> &[PublicKey] {
        &self.published
    }

    /// The id of the MAC key of new generations.
    pub fn current_mac(&self) -> i16 {
        self.current_mac
    }

    /// The MAC key with this id.
    pub fn mac(&self, id: i16) -> Option<&hmac::Key> {
        self.macs.get(&id)
    }

    /// A key for `purpose`, derived from the oldest MAC key, so the same on every replica.
    pub(super) fn derive(&self, purpose: &str) -> hmac::Key {
        let oldest = self.macs.keys().min().and_then(|id| self.macs.get(id));
        let oldest = oldest.expect("load demands a MAC key");
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(oldest, purpose.as_bytes()).as_ref())
    }
}

/// The keys as a JWK set (RFC 7517, section 5; members as RFC 8037).
pub fn jwks(keys: &[PublicKey]) -> String {
    let key = |key: &PublicKey| {
        serde_json::json!({
            "kid": key.kid, "kty": "OKP", "crv": "Ed25519",
            "alg": "EdDSA", "use": "sig", "x": key.x,
        })
    };
    serde_json::json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string()
}

fn new_signing_key(master: &MasterKey, clock: &Clock) -> anyhow::Result<StoredKey> {
    let pair = Ed25519KeyPair::generate().map_err(|_| anyhow!("cannot make a signing key"))?;
    let secret = pair.to_pkcs8().map_err(|_| anyhow!("cannot write a signing key"))?;
    let public_key = pair.public_key().as_ref().to_vec();
    let kid = thumbprint(&URL_SAFE_NO_PAD.encode(&public_key));
    Ok(StoredKey {
        sealed_private_key: master.seal(&kid, secret.as_ref()),
        kid,
        purpose: ACCESS,
        key_number: 1,
        algorithm: "EdDSA".to_owned(),
        public_key,
        created_at: clock.now(),
    })
}

fn new_mac_key(master: &MasterKey, clock: &Clock) -> anyhow::Result<StoredKey> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow!("cannot make a MAC key"))?;
    let kid = "refresh-1".to_owned();
    Ok(StoredKey {
        sealed_private_key: master.seal(&kid, &secret),
        kid,
        purpose: REFRESH,
        key_number: 1,
        algorithm: "HS256".to_owned(),
        public_key: Vec::new(),
        created_at: clock.now(),
    })
}

/// The JWK thumbprint of an Ed25519 key (RFC 7638, section 3; members as RFC 8037, appendix A.3).
fn thumbprint(x: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_8037() {
        // RFC 8037, appendix A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(thumbprint(x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn another_master_key_is_refused_with_advice() {
        let clock = Clock::system();
        let right = MasterKey::parse(&MasterKey::generate()).unwrap();
        let wrong = MasterKey::parse(&MasterKey::generate()).unwrap();
        let stored =
            [new_signing_key(&right, &clock).unwrap(), new_mac_key(&right, &clock).unwrap()];
        assert!(Keyring::load(&stored, &right).is_ok());
        let error = Keyring::load(&stored, &wrong).err().unwrap().to_string();
        assert!(error.contains("SESSIOND_MASTER_KEY"), "{error}");
    }
}
