//! Keys at rest: sealed with a master key that never enters the database.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// 256 bits that seal private keys (AES-256-GCM, NIST SP 800-38D, random 96-bit nonces: a handful
/// of seals per master key is far below the limit of 2^32). Cheap to clone.
#[derive(Clone)]
pub struct MasterKey(Arc<RandomizedNonceKey>);

impl MasterKey {
    /// Reads a master key: 32 bytes as base64.
    ///
    /// # Errors
    /// The rule that the text breaks; never the text itself.
    pub fn parse(text: &str) -> Result<MasterKey, String> {
        let rule = || "must be 32 bytes in base64 (openssl rand -base64 32)".to_owned();
        let bytes = STANDARD.decode(text.trim()).map_err(|_| rule())?;
        if bytes.len() != 32 {
            return Err(rule());
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| rule())?;
        Ok(MasterKey(Arc::new(key)))
    }

    /// A new random master key, as [`MasterKey::parse`] reads it.
    pub fn generate() -> String {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
        STANDARD.encode(bytes)
    }

    /// Seals `secret`, bound to the key id `kid`: nonce, ciphertext, tag.
    pub fn seal(&self, kid: &str, secret: &[u8]) -> Vec<u8> {
        let mut text = secret.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut text)
            .expect("a key fits into one AES-GCM message");
        [nonce.as_ref().as_slice(), &text].concat()
    }

    /// Opens what [`MasterKey::seal`] made for the same `kid` with the same master key.
    pub fn open(&self, kid: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(kid.as_bytes()), &mut text).ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_the_same_key_and_kid() {
        let key = MasterKey::parse(&MasterKey::generate()).unwrap();
        let sealed = key.seal("a", b"secret");
        assert_eq!(key.open("a", &sealed).as_deref(), Some(b"secret".as_slice()));
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(key.open("b", &sealed), None);
        assert_eq!(key.open("a", &sealed[1..]), None);
        assert_eq!(key.open("a", b"short"), None);
        let other = MasterKey::parse(&MasterKey::generate()).unwrap();
        assert_eq!(other.open("a", &sealed), None);
    }

    #[test]
    fn a_master_key_is_exactly_32_bytes() {
        assert!(MasterKey::parse(&STANDARD.encode([7; 32])).is_ok());
        assert!(MasterKey::parse(&STANDARD.encode([7; 31])).is_err());
        assert!(MasterKey::parse(&STANDARD.encode([7; 33])).is_err());
        assert!(MasterKey::parse("not base64!").is_err());
    }
}
