//! Public keys as JSON Web Keys (RFC 7517): members, thumbprints, the set.

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

/// How access tokens are signed. A property of the key, never of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA with P-256 and SHA-256 (RFC 7518, section 3.4).
    Es256,
    /// RSASSA-PKCS1-v1_5 with 2048 bits and SHA-256 (RFC 7518, section 3.3).
    Rs256,
}

/// A public key by the members that RFC 7518, section 6, and RFC 8037 give it, each base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    Ed25519 { x: String },
    P256 { x: String, y: String },
    Rsa { n: String, e: String },
}

/// A public key under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// RFC 7638 thumbprint.
    pub kid: String,
    pub key: PublicKey,
}

/// A public key in the form that verifies access tokens.
pub struct VerifyingKey {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl SigningAlgorithm {
    pub const ALL: [SigningAlgorithm; 3] =
        [SigningAlgorithm::EdDsa, SigningAlgorithm::Es256, SigningAlgorithm::Rs256];

    /// The name in `alg` (RFC 7518, section 3.1; RFC 8037, section 3.1), and as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            SigningAlgorithm::EdDsa => "EdDSA",
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::Rs256 => "RS256",
        }
    }

    /// The algorithm of this name.
    pub fn named(name: &str) -> Option<SigningAlgorithm> {
        SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) fn jwa(self) -> Algorithm {
        match self {
            SigningAlgorithm::EdDsa => Algorithm::EdDSA,
            SigningAlgorithm::Es256 => Algorithm::ES256,
            SigningAlgorithm::Rs256 => Algorithm::RS256,
        }
    }
}

impl PublicKey {
    /// The algorithm of the signatures that the key verifies.
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self {
            PublicKey::Ed25519 { .. } => SigningAlgorithm::EdDsa,
            PublicKey::P256 { .. } => SigningAlgorithm::Es256,
            PublicKey::Rsa { .. } => SigningAlgorithm::Rs256,
        }
    }

    /// The members that make the key, by name in the order of RFC 7638, section 3.2.
    pub fn members(&self) -> Vec<(&'static str, &str)> {
        match self {
            PublicKey::Ed25519 { x } => vec![("crv", "Ed25519"), ("kty", "OKP"), ("x", x)],
            PublicKey::P256 { x, y } => vec![("crv", "P-256"), ("kty", "EC"), ("x", x), ("y", y)],
            PublicKey::Rsa { n, e } => vec![("e", e), ("kty", "RSA"), ("n", n)],
        }
    }

    /// The JWK thumbprint (RFC 7638, section 3; RFC 8037, appendix A.3).
    pub fn thumbprint(&self) -> String {
        // No value has a character that JSON escapes.
        let members = self.members().into_iter();
        let members: Vec<String> =
            members.map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
        let text = format!("{{{}}}", members.join(","));
        URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
    }

    /// The key in the form that verifies access tokens.
    ///
    /// # Errors
    /// If a member is not base64url, or has a length that such a key does not have.
    pub fn verifying(&self) -> anyhow::Result<VerifyingKey> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).context("a public key");
        let decoding = match self {
            PublicKey::Ed25519 { x } => {
                ensure!(bytes(x)?.len() == 32, "an Ed25519 key has 32 bytes");
                DecodingKey::from_ed_components(x)?
            }
            PublicKey::P256 { x, y } => {
                let whole = bytes(x)?.len() == 32 && bytes(y)?.len() == 32;
                ensure!(whole, "the coordinates of a P-256 key have 32 bytes");
                DecodingKey::from_ec_components(x, y)?
            }
            PublicKey::Rsa { n, e } => {
                ensure!((256..=1024).contains(&bytes(n)?.len()), "2048 to 8192 bits");
                ensure!((1..=8).contains(&bytes(e)?.len()), "a short exponent");
                DecodingKey::from_rsa_components(n, e)?
            }
        };
        Ok(VerifyingKey { algorithm: self.algorithm().jwa(), decoding })
    }
}

/// The keys as a JWK set (RFC 7517, section 5).
pub fn jwks(keys: &[Jwk]) -> String {
    let key = |key: &Jwk| {
        let mut members = serde_json::json!({
            "kid": key.kid, "alg": key.key.algorithm().name(), "use": "sig",
        });
        for (name, value) in key.key.members() {
            members[name] = value.into();
        }
        members
    };
    serde_json::json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprints_are_those_of_the_rfcs() {
        // RFC 8037, appendix A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned();
        let thumbprint = PublicKey::Ed25519 { x }.thumbprint();
        assert_eq!(thumbprint, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // RFC 7638, section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP\
                 ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY\
                 368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f\
                 M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let key = PublicKey::Rsa { n: n.to_owned(), e: "AQAB".to_owned() };
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert!(key.verifying().is_ok());
        // The key of RFC 7517, appendix A.1; its thumbprint by sha256sum.
        let (x, y) = (
            "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        );
        let key = PublicKey::P256 { x: x.to_owned(), y: y.to_owned() };
        assert_eq!(key.thumbprint(), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
        assert!(key.verifying().is_ok());
    }

    #[test]
    fn members_of_another_length_make_no_key() {
        let text = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![1; bytes]);
        for bytes in [0, 31, 33] {
            assert!(PublicKey::Ed25519 { x: text(bytes) }.verifying().is_err());
            assert!(PublicKey::P256 { x: text(32), y: text(bytes) }.verifying().is_err());
        }
        for (n, e) in [(255, 3), (1025, 3), (256, 0), (256, 9)] {
            assert!(PublicKey::Rsa { n: text(n), e: text(e) }.verifying().is_err());
        }
        assert!(PublicKey::Ed25519 { x: "a/b=".to_owned() }.verifying().is_err());
    }
}
