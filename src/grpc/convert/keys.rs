//! The key set, typed and as JWKS text.

use crate::grpc::pb::session as pb;
use crate::token::keyring::{PublicKey, jwks};

/// The set as RFC 7517 writes it, Ed25519 keys as RFC 8037.
pub fn key_set(published: &[PublicKey]) -> pb::GetJsonWebKeySetResponse {
    let keys = published
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
    let jwks_json = jwks(published);
    pb::GetJsonWebKeySetResponse { jwks_json, keys }
}
