//! Access tokens: JWTs as RFC 9068 profiles them (`typ: at+jwt`).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{Duration, SubsecRound};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::claims::CustomClaims;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::session::Session;
use crate::model::token::{AccessClaims, InactiveReason};
use crate::token::jwk::VerifyingKey;
use crate::token::keyring::AccessKey;

/// Longer texts are no tokens of ours: every claim at its limit, and a signature of 1024 bytes.
pub(super) const MAX_LEN: usize = 12_288;
/// The value of the `typ` header (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";
/// How far another replica's clock may run ahead of ours, in seconds. Only `nbf` needs it: an
/// `exp` that passes a little early is refreshed, a token that is not valid yet is a refusal.
const LEEWAY: i64 = 5;

/// The claims as they travel. Every field without `Option` is required, and of exactly this type.
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

/// When a token of `session` that is issued at `from` expires: after `ttl` at most, in whole seconds as `exp` counts
/// them (RFC 7519, section 2), rounded up, so that it lives for `ttl` at least. Never past the absolute deadline; and
/// without activity not past the second in which the idle deadline lies, which verifiers of their own do not see.
/// Issuing one again is no activity, so that deadline may be nearer than the idle timeout is long.
pub fn expires_at(session: &Session, from: Time, ttl: Duration) -> Time {
    #[cfg(debug_assertions)]
    if crate::broken::is("never-expires") {
        return from + ttl;
    }
    let idle = session.idle_timeout.map(|idle| (from + idle).min(session.last_active_at + idle));
    let until = idle.map_or(from + ttl, |idle| idle.min(from + ttl));
    let whole = until.trunc_subsecs(0);
    let rounded = if whole < until { whole + Duration::seconds(1) } else { whole };
    rounded.min(latest(session))
}

/// The last second that a token of `session` may live to, however active it is.
pub fn latest(session: &Session) -> Time {
    session.absolute_expires_at.trunc_subsecs(0)
}

/// Signs a token for `session` that is valid from `now` until `expires_at`. The same session,
/// generation and time give the same claims, and with EdDSA and RS256 the same token. Also what verifying it will tell.
pub(super) fn sign(
    key: &AccessKey,
    issuer: &str,
    session: &Session,
    now: Time,
    expires_at: Time,
) -> (String, AccessClaims) {
    let authentication = &session.authentication;
    let wire = Wire {
        iss: issuer.to_owned(),
        sub: session.key.user.to_string(),
        client_id: session.client.to_string(),
        aud: session.audiences.clone(),
        exp: expires_at.timestamp(),
        nbf: now.timestamp(),
        iat: now.timestamp(),
        jti: token_id(session, now).to_string(),
        sid: session.key.session,
        tid: session.key.tenant.to_string(),
        did: session.device.id,
        rg: session.chain.generation,
        acr: authentication.acr.clone(),
        amr: authentication.amr.clone(),
        auth_time: Some(authentication.auth_time.timestamp()),
        scope: session.scope.clone(),
    };
    let header = Header {
        typ: Some(TYPE.to_owned()),
        kid: Some(key.kid.to_string()),
        ..Header::new(key.verifying.algorithm)
    };
    // Written here, since the library parses the private key for each token.
    let (header, payload) = (part(&header), payload(&wire, session.claims.as_ref()));
    let message = format!("{header}.{payload}");
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.pair.sign(message.as_bytes())));
    let claims = AccessClaims {
        key: session.key.clone(),
        device: wire.did,
        audiences: wire.aud,
        generation: wire.rg,
        not_before: wire.nbf,
        expires_at: wire.exp,
    };
    (token, claims)
}

fn part(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("plain data"))
}

/// The claims with the caller's own behind them, none of which has the name of one of ours.
fn payload(wire: &Wire, custom: Option<&CustomClaims>) -> String {
    let mut json = serde_json::to_vec(wire).expect("plain data");
    if let Some(members) = custom.and_then(|custom| custom.as_json().strip_prefix('{')) {
        json.pop();
        json.push(b',');
        json.extend_from_slice(members.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(json)
}

/// Unique per session, generation and time, and derived from them: a repeated answer repeats it.
fn token_id(session: &Session, now: Time) -> Uuid {
    let mut text = [0; 28];
    text[..16].copy_from_slice(session.key.session.as_bytes());
    text[16..20].copy_from_slice(&session.chain.generation.to_be_bytes());
    text[20..].copy_from_slice(&now.timestamp_micros().to_be_bytes());
    let hash = digest(&SHA256, &text);
    Uuid::new_v8(hash.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}

/// The id of the key that a token says it was signed with.
///
/// # Errors
/// `Malformed`: it is no access token by its header.
pub fn key_of(token: &str) -> Result<String, InactiveReason> {
    if token.len() > MAX_LEN {
        return Err(InactiveReason::Malformed);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| InactiveReason::Malformed)?;
    if header.typ.as_deref() != Some(TYPE) {
        return Err(InactiveReason::Malformed);
    }
    header.kid.ok_or(InactiveReason::Malformed)
}

/// Proves a token whose header is read by [`key_of`] already: algorithm, signature, claims and issuer, in this order.
/// Times and audience are [`AccessClaims::check`]'s.
///
/// # Errors
/// Why the token opens nothing.
pub fn prove(
    key: &VerifyingKey,
    issuer: &str,
    token: &str,
) -> Result<AccessClaims, InactiveReason> {
    // `decode` refuses a token whose header names another algorithm than the key's.
    let mut rules = Validation::new(key.algorithm);
    // The library compares with its own clock and passes what is absent; `Wire` demands every
    // claim, and the comparisons are ours.
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
    /// True before `nbf`, by more than clocks differ. Such a token is genuine all the same: it was issued before the
    /// clock was set back, so only its session can tell whether it is good.
    pub fn is_from_future(&self, now: Time) -> bool {
        now.timestamp().saturating_add(LEEWAY) < self.not_before
    }

    /// Checks `exp`, and the audience where one is asked for.
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
