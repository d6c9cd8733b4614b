//! The key set, typed and as JWKS text.

use crate::grpc::pb::session as pb;
use crate::token::keyring::PublicKey;

/// The set as RFC 7517 writes it, Ed25519 keys as RFC 8037.
pub fn key_set(keys: &[PublicKey]) -> pb::GetJsonWebKeySetResponse {
    let keys: Vec<pb::JsonWebKey> = keys
        .iter()
        .map(|key| pb::JsonWebKey {
            kid: key.kid.clone(),
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
            x: key.x.clone(),
        })
        .collect();
    let json: Vec<serde_json::Value> = keys
        .iter()
        .map(|key| {
            serde_json::json!({
                "kid": key.kid, "kty": key.kty, "crv": key.crv,
                "alg": key.alg, "use": key.r#use, "x": key.x,
            })
        })
        .collect();
    let jwks_json = serde_json::json!({ "keys": json }).to_string();
    pb::GetJsonWebKeySetResponse { jwks_json, keys }
}
