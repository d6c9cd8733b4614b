//! The key set, as messages and as JWKS text.

use crate::grpc::pb;
use crate::token::jwk::{Jwk, jwks};

/// The key set, typed and as the JSON text of RFC 7517.
pub fn key_set(published: &[Jwk]) -> pb::GetJsonWebKeySetResponse {
    let keys = published.iter().map(to_pb_key).collect();
    pb::GetJsonWebKeySetResponse { jwks_json: jwks(published), keys }
}

fn to_pb_key(jwk: &Jwk) -> pb::JsonWebKey {
    let members = jwk.key.members();
    let member = |asked: &str| {
        let found = members.iter().find(|(name, _)| *name == asked);
        found.map(|(_, value)| (*value).to_owned()).unwrap_or_default()
    };
    pb::JsonWebKey {
        kid: jwk.kid.clone(),
        kty: member("kty"),
        crv: member("crv"),
        alg: jwk.key.algorithm().name().to_owned(),
        r#use: "sig".to_owned(),
        x: member("x"),
        y: member("y"),
        n: member("n"),
        e: member("e"),
    }
}
