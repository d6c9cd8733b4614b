//! API keys: `ssk_<key id>_<secret>`. Only the SHA-256 of the secret is stored.

use anyhow::anyhow;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

const PREFIX: &str = "ssk_";
const ID_LEN: usize = 16;
/// 32 random bytes in base64url without padding.
const SECRET_LEN: usize = 43;

/// Identifies a key, and is not secret: 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID_LEN]);

/// The SHA-256 of a secret. Compared in constant time.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

/// A key as presented by a caller: its id and the hash of its secret.
#[derive(Clone, Copy)]
pub struct PresentedKey {
    pub id: KeyId,
    pub hash: SecretHash,
}

impl KeyId {
    /// Parses an id.
    pub fn parse(text: &str) -> Option<KeyId> {
        let id: [u8; ID_LEN] = text.as_bytes().try_into().ok()?;
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        id.iter().all(hex).then_some(KeyId(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are text")
    }
}

impl SecretHash {
    /// From the stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<SecretHash> {
        bytes.try_into().ok().map(SecretHash)
    }

    /// The bytes to store.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the hash of the same secret. Constant time.
    pub fn matches(&self, other: &SecretHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn of(secret: &[u8]) -> SecretHash {
        SecretHash(digest(&SHA256, secret).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl PresentedKey {
    /// Parses a key; `None` unless it has exactly the form that [`generate`] writes.
    pub fn parse(text: &[u8]) -> Option<PresentedKey> {
        let rest = text.strip_prefix(PREFIX.as_bytes())?;
        let (id, rest) = rest.split_first_chunk::<ID_LEN>()?;
        let secret = rest.strip_prefix(b"_")?;
        let base64url = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        if secret.len() != SECRET_LEN || !secret.iter().all(base64url) {
            return None;
        }
        let id = KeyId::parse(std::str::from_utf8(id).ok()?)?;
        Some(PresentedKey { id, hash: SecretHash::of(secret) })
    }
}

/// Generates a key: its id and hash, and its text, which cannot be recovered later.
///
/// # Errors
/// If the system has no randomness.
pub fn generate() -> anyhow::Result<(PresentedKey, String)> {
    let mut random = [0; ID_LEN / 2 + 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("no randomness"))?;
    let (id, secret) = random.split_at(ID_LEN / 2);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let key = PresentedKey::parse(text.as_bytes()).expect("what is generated can be read");
    Ok((key, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_and_no_other_matches_it() {
        let (key, text) = generate().unwrap();
        assert_eq!(text.len(), 4 + 16 + 1 + 43);
        let again = PresentedKey::parse(text.as_bytes()).unwrap();
        assert_eq!(again.id, key.id);
        assert!(again.hash.matches(&key.hash));
        let (other, _) = generate().unwrap();
        assert_ne!(other.id, key.id);
        assert!(!other.hash.matches(&key.hash));
    }

    #[test]
    fn no_changed_byte_truncation_or_extension_passes() {
        let (key, text) = generate().unwrap();
        let passes = |text: &[u8]| {
            PresentedKey::parse(text).is_some_and(|k| k.id == key.id && k.hash.matches(&key.hash))
        };
        assert!(passes(text.as_bytes()));
        for at in 0..text.len() {
            for other in [b'A', b'_', b'~', b'0', b'f', 0xff] {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = other;
                assert!(
                    changed == text.as_bytes() || !passes(&changed),
                    "byte {at} became {other}"
                );
            }
            assert!(!passes(&text.as_bytes()[..at]), "cut at {at}");
        }
        for tail in ["A", "=", " ", "\n"] {
            assert!(!passes(format!("{text}{tail}").as_bytes()));
            assert!(!passes(format!("{tail}{text}").as_bytes()));
        }
    }
}
