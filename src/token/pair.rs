//! Key pairs that sign access tokens.

use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::token::jwk::{PublicKey, SigningAlgorithm};

/// A private key with its public one. Cannot be printed.
pub(crate) enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A new private key, as PKCS #8. An RSA key takes up to a second.
pub(crate) fn generate(algorithm: SigningAlgorithm) -> anyhow::Result<Vec<u8>> {
    let failed = |_| anyhow!("cannot make a signing key");
    Ok(match algorithm {
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            pair.to_pkcs8().map_err(failed)?.as_ref().to_vec()
        }
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            AsDer::<Pkcs8V1Der>::as_der(&pair).map_err(failed)?.as_ref().to_vec()
        }
    })
}

impl Pair {
    /// Reads a private key of this algorithm.
    pub fn open(algorithm: SigningAlgorithm, pkcs8: &[u8]) -> anyhow::Result<Pair> {
        let pair = match algorithm {
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::Ed25519),
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Pair::P256)
            }
            SigningAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa),
        };
        pair.map_err(|why| anyhow!("no key for {}: {why}", algorithm.name()))
    }

    /// The public key: its stored form, and its JWK members.
    pub fn public(&self) -> anyhow::Result<(Vec<u8>, PublicKey)> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(match self {
            Pair::Ed25519(pair) => {
                let point = pair.public_key().as_ref();
                (point.to_vec(), PublicKey::Ed25519 { x: text(point) })
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                // SEC 1, section 2.3.3: 4, then both coordinates.
                let coordinates = point.get(1..65).context("an uncompressed point")?;
                let (x, y) = coordinates.split_at(32);
                (point.to_vec(), PublicKey::P256 { x: text(x), y: text(y) })
            }
            Pair::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                let n = text(n.big_endian_without_leading_zero());
                let e = text(e.big_endian_without_leading_zero());
                (key.as_ref().to_vec(), PublicKey::Rsa { n, e })
            }
        })
    }

    /// The signature of a message, as JWS writes it (RFC 7518, section 3).
    ///
    /// # Panics
    /// If the system has no randomness, which ECDSA needs.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signed = "a key that was checked when loaded";
        match self {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) => {
                pair.sign(&SystemRandom::new(), message).expect(signed).as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .expect(signed);
                signature
            }
        }
    }
}
