//! Access tokens: JWTs in the profile of RFC 9068 (`typ: at+jwt`). This file verifies them; `access/sign.rs`, which a
//! gateway does not need, makes them.

#[cfg(feature = "server")]
mod sign;

use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::token::{AccessClaims, InactiveReason};
use crate::token::jwk::VerifyingKey;

#[cfg(feature = "server")]
pub(super) use sign::sign;
#[cfg(feature = "server")]
pub use sign::{expires_at, latest};

/// No token of the service is longer: every claim at its limit, and a signature of 1024 bytes.
pub(super) const MAX_LEN: usize = 12_288;
/// The value of the `typ` header (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";
/// How far another replica's clock may run ahead of ours, in seconds. Only `nbf` needs it: an
/// `exp` that passes a little early is refreshed, a token that is not valid yet is a refusal.
const LEEWAY: i64 = 5;

/// The claims in their serialized form. Every field without `Option` is required, and of exactly this type.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    sub: String,
    client_id: String,
    aud: Vec<String>,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    sid: Uuid,
    tid: String,
    did: Uuid,
    rg: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    amr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// The id of the key that a token says it was signed with.
///
/// # Errors
/// `Malformed` if the header is not that of an access token of the service.
pub fn key_of(token: &str) -> Result<String, InactiveReason> {
    if token.len() > MAX_LEN {
        return Err(InactiveReason::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| InactiveReason::Malformed)?;
    if header.typ.as_deref() != Some(TYPE) {
        return Err(InactiveReason::Malformed);
    }
    // `crit` names extensions that a verifier must understand (RFC 7515, section 4.1.11); the service never sets it.
    if header.crit.is_some() {
        return Err(InactiveReason::Malformed);
    }
    header.kid.ok_or(InactiveReason::Malformed)
}

/// Proves a token whose header [`key_of`] has read: algorithm, signature, claims and issuer, in this order.
/// [`AccessClaims::check`] checks the times and the audience.
///
/// # Errors
/// The reason why the token is not genuine.
pub fn prove(
    key: &VerifyingKey,
    issuer: &str,
    token: &str,
) -> Result<AccessClaims, InactiveReason> {
    // `decode` refuses a token whose header names another algorithm than the key's.
    let mut rules = Validation::new(key.algorithm);
    // The library uses its own clock and accepts absent claims. `Wire` requires every claim, and `check` compares them.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let data =
        jsonwebtoken::decode::<Wire>(token, &key.decoding, &rules).map_err(|error| match error
            .kind()
        {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => {
                InactiveReason::SignatureInvalid
            }
            _ => InactiveReason::Malformed,
        })?;
    let wire = data.claims;
    if wire.iss != issuer {
        return Err(InactiveReason::WrongIssuer);
    }
    // An empty tenant stands for the default one in requests, never in a token.
    let tenant = Some(wire.tid).filter(|tid| !tid.is_empty()).map(|tid| TenantId::parse(&tid));
    let (Some(Ok(tenant)), Ok(user)) = (tenant, UserId::parse(&wire.sub)) else {
        return Err(InactiveReason::Malformed);
    };
    Ok(AccessClaims {
        key: SessionKey { tenant, user, session: wire.sid },
        device: wire.did,
        audiences: wire.aud,
        generation: wire.rg,
        not_before: wire.nbf,
        expires_at: wire.exp,
    })
}

impl AccessClaims {
    /// True before `nbf`, beyond the leeway for clock differences. Such a token is genuine: it was issued before the
    /// clock was set back, so only its session tells whether it is valid.
    pub fn is_from_future(&self, now: Time) -> bool {
        now.timestamp().saturating_add(LEEWAY) < self.not_before
    }

    /// Checks `exp`, and the audience if `audience` is given.
    ///
    /// # Errors
    /// `TokenExpired` or `WrongAudience`.
    pub fn check(&self, now: Time, audience: Option<&str>) -> Result<(), InactiveReason> {
        if now.timestamp() >= self.expires_at {
            return Err(InactiveReason::TokenExpired);
        }
        if audience.is_some_and(|asked| !self.audiences.iter().any(|aud| aud == asked)) {
            return Err(InactiveReason::WrongAudience);
        }
        Ok(())
    }
}
