//! Handmade access tokens, signed with a key that the server trusts.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sessiond::token::seal::MasterKey;

use super::cluster::Db;
use super::{MASTER_KEY, TestServer, clock, start_on};

const KID: &str = "by-hand";

/// A key pair in the server's key table.
pub struct Forge {
    pair: Ed25519KeyPair,
}

/// A server that signs with the key of the forge.
pub async fn start_with_forge() -> (TestServer, Forge) {
    let db = Db::fresh().await;
    let pair = Ed25519KeyPair::generate().expect("a key pair");
    let secret = pair.to_pkcs8().expect("a private key");
    let master = MasterKey::parse(&MASTER_KEY).expect("32 bytes");
    let sealed = master.seal(KID, secret.as_ref());
    let insert = "INSERT INTO signing_keys VALUES ($1, 1, 1, 'EdDSA', $2, $3, now())";
    let public = pair.public_key().as_ref();
    let rows = db.connect().await.execute(insert, &[&KID, &public, &sealed]).await;
    assert_eq!(rows.expect("a key"), 1);
    (start_on(db, clock(), |_| {}).await, Forge { pair })
}

impl Forge {
    /// The header of the server's tokens.
    pub fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": KID })
    }

    /// A correctly signed token of these parts.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The same signed with HMAC, with the public key as the secret.
    pub fn mac_token(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        let tag = hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}

/// Header and claims in the form that is signed.
pub fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The claims of a token, without a check of its signature.
pub fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    let json = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}
