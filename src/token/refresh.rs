//! Refresh tokens: derived, never stored.
//!
//! `rt1_` and the base64url (no padding) of
//! version (1 byte, 1), key id (2), generation (4), session id (16), tenant length (1), tenant,
//! user length (2), user, HMAC-SHA-256 (32) over all before it and the session's nonce.
//! Numbers are big-endian. The nonce is in the session's row, so a stolen key alone cannot forge a token.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::token::RefreshClaims;

const PREFIX: &str = "rt1_";
const VERSION: u8 = 1;
const MAC_LEN: usize = 32;
/// The longest token: the longest tenant, and a user id of 128 four-byte characters.
const MAX_LEN: usize = PREFIX.len() + (1 + 2 + 4 + 16 + 1 + 64 + 2 + 512 + MAC_LEN) * 4 / 3 + 1;

/// A refresh token as presented: it names a session, but proves nothing until
/// [`Presented::is_genuine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The claims of the token, unproven.
    pub claims: RefreshClaims,
    body: Vec<u8>,
    mac: [u8; MAC_LEN],
}

/// Writes the token of `claims` for a session with this `nonce`.
pub fn encode(claims: &RefreshClaims, nonce: &[u8; 16], key: &hmac::Key) -> String {
    let mut bytes = body(claims);
    let mac = hmac::sign(key, &[bytes.as_slice(), nonce].concat());
    bytes.extend_from_slice(mac.as_ref());
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads a token; `None` unless it has exactly the form that [`encode`] writes.
pub fn decode(token: &str) -> Option<Presented> {
    if token.len() > MAX_LEN {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    let (body_bytes, mac) = bytes.split_last_chunk::<MAC_LEN>()?;
    let mut rest = body_bytes;
    let [version] = take::<1>(&mut rest)?;
    let key_id = i16::from_be_bytes(take(&mut rest)?);
    let generation = u32::from_be_bytes(take(&mut rest)?);
    let session = Uuid::from_bytes(take(&mut rest)?);
    let [tenant_len] = take::<1>(&mut rest)?;
    let tenant = take_text(&mut rest, tenant_len.into())?;
    let user_len = u16::from_be_bytes(take(&mut rest)?);
    let user = take_text(&mut rest, user_len.into())?;
    if version != VERSION || !rest.is_empty() || tenant.is_empty() {
        return None;
    }
    let key = SessionKey {
        tenant: TenantId::parse(tenant).ok()?,
        user: UserId::parse(user).ok()?,
        session,
    };
    let claims = RefreshClaims { key, generation, key_id };
    Some(Presented { claims, body: body_bytes.to_vec(), mac: *mac })
}

impl Presented {
    /// True if the token was made with `key` for the session that has `nonce`. Constant time.
    pub fn is_genuine(&self, nonce: &[u8; 16], key: &hmac::Key) -> bool {
        hmac::verify(key, &[self.body.as_slice(), nonce].concat(), &self.mac).is_ok()
    }
}

fn body(claims: &RefreshClaims) -> Vec<u8> {
    let (tenant, user) = (claims.key.tenant.as_str(), claims.key.user.as_str());
    let mut bytes = Vec::with_capacity(26 + tenant.len() + user.len() + MAC_LEN);
    bytes.push(VERSION);
    bytes.extend_from_slice(&claims.key_id.to_be_bytes());
    bytes.extend_from_slice(&claims.generation.to_be_bytes());
    bytes.extend_from_slice(claims.key.session.as_bytes());
    bytes.push(u8::try_from(tenant.len()).expect("a tenant id has at most 64 bytes"));
    bytes.extend_from_slice(tenant.as_bytes());
    let user_len = u16::try_from(user.len()).expect("a user id has at most 512 bytes");
    bytes.extend_from_slice(&user_len.to_be_bytes());
    bytes.extend_from_slice(user.as_bytes());
    bytes
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_text<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a str> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    std::str::from_utf8(head).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
    }

    fn claims(tenant: &str, user: &str, id: u128, generation: u32, key_id: i16) -> RefreshClaims {
        let key = SessionKey {
            tenant: TenantId::parse(tenant).unwrap(),
            user: UserId::parse(user).unwrap(),
            session: Uuid::from_u128(id),
        };
        RefreshClaims { key, generation, key_id }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_proven(
            tenant in "[A-Za-z0-9._-]{1,64}",
            user in "[^\\p{Cc}]{1,128}",
            id in any::<u128>(),
            generation in any::<u32>(),
            key_id in any::<i16>(),
            nonce in any::<[u8; 16]>(),
        ) {
            let claims = claims(&tenant, &user, id, generation, key_id);
            let token = encode(&claims, &nonce, &key());
            prop_assert!(token.len() <= MAX_LEN);
            let presented = decode(&token).expect("our own token");
            prop_assert_eq!(&presented.claims, &claims);
            prop_assert!(presented.is_genuine(&nonce, &key()));
            prop_assert!(!presented.is_genuine(&[0; 16], &key()) || nonce == [0; 16]);
            prop_assert_eq!(encode(&claims, &nonce, &key()), token);
        }

        #[test]
        fn anything_may_be_presented(text in ".*") {
            prop_assert!(decode(&text).is_none());
            decode(&format!("rt1_{text}"));
        }
    }

    #[test]
    fn no_changed_byte_truncation_or_extension_passes() {
        let nonce = [3; 16];
        let token = encode(&claims("default", "ada", 1, 5, 1), &nonce, &key());
        let passes = |t: &str| decode(t).is_some_and(|p| p.is_genuine(&nonce, &key()));
        assert!(passes(&token));
        for at in 0..token.len() {
            for other in ["A", "_", "~", "0"] {
                let mut changed = token.clone();
                changed.replace_range(at..=at, other);
                assert!(changed == token || !passes(&changed), "byte {at} became {other}");
            }
            assert!(!passes(&token[..at]), "cut at {at}");
        }
        for tail in ["A", "=", "==", " ", "\n", "AAAA"] {
            assert!(!passes(&format!("{token}{tail}")), "extended by {tail:?}");
        }
    }
}
