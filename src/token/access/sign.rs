//! Makes access tokens.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{Duration, SubsecRound};
use jsonwebtoken::Header;
use serde::Serialize;
use uuid::Uuid;

use super::{TYPE, Wire};
use crate::clock::Time;
use crate::model::claims::CustomClaims;
use crate::model::session::Session;
use crate::model::token::AccessClaims;
use crate::token::keyring::AccessKey;

/// When a token of `session` that is issued at `from` expires: after `ttl`, in whole seconds as `exp` counts them
/// (RFC 7519, section 2), rounded up. Never past the absolute deadline; and never past the second of the idle deadline,
/// which gateways cannot see. A repeated answer is not activity, so that deadline may be nearer than the idle timeout.
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

/// The last second at which a token of `session` may expire, however active the session is.
pub fn latest(session: &Session) -> Time {
    session.absolute_expires_at.trunc_subsecs(0)
}

/// Signs a token for `session` that is valid from `now` until `expires_at`; also returns the claims that verifying it
/// yields. The same session, generation and time give the same claims, and with EdDSA and RS256 the same token.
pub(in crate::token) fn sign(
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
    // Not by the library, which would parse the private key for each token.
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

/// The service's claims, followed by the custom claims. No custom claim has the name of one of the service's.
fn payload(wire: &Wire, custom: Option<&CustomClaims>) -> String {
    let mut json = serde_json::to_vec(wire).expect("plain data");
    if let Some(members) = custom.and_then(|custom| custom.as_json().strip_prefix('{')) {
        json.pop();
        json.push(b',');
        json.extend_from_slice(members.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(json)
}

/// Unique per session, generation and time, and derived from them: a repeated answer contains the same id.
fn token_id(session: &Session, now: Time) -> Uuid {
    let mut text = [0; 28];
    text[..16].copy_from_slice(session.key.session.as_bytes());
    text[16..20].copy_from_slice(&session.chain.generation.to_be_bytes());
    text[20..].copy_from_slice(&now.timestamp_micros().to_be_bytes());
    let hash = digest(&SHA256, &text);
    Uuid::new_v8(hash.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}
