//! Conflict tokens: the holder may choose, once, which sessions end for a new one. Nothing is stored until a token is
//! used, and then only its id.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::ids::{ClientId, TenantId, UserId};
use crate::model::request::RequestId;
use crate::token::derived::DerivedKey;
use crate::token::keyring::Keyring;

/// How long after a conflict its token can be used.
pub const LIFE: Duration = Duration::minutes(5);

const NONCE_LEN: usize = 16;
const BODY_LEN: usize = NONCE_LEN + 8;
/// Half of the MAC is in the token; the other half is the token's id.
const TAG_LEN: usize = 16;

/// Writes and reads conflict tokens.
pub struct ConflictTokens(DerivedKey);

/// The tenant, user and client that a token is for.
pub type Holder<'a> = (&'a TenantId, &'a UserId, &'a ClientId);

/// A genuine token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictToken {
    /// Stored as a request id once the token is used. The id is the half of the MAC that is not in the token, so no
    /// client can send it as the id of a request.
    pub request: RequestId,
    /// The token is invalid from this time.
    pub expires_at: Time,
}

impl ConflictTokens {
    /// Uses keys that all replicas share, as of `now`.
    ///
    /// # Errors
    /// If the keyring has no current MAC key.
    pub fn of(keyring: &Keyring, now: Time) -> anyhow::Result<ConflictTokens> {
        Ok(ConflictTokens(keyring.derive("conflict token", now)?))
    }

    /// Writes a token for `holder`. A fresh `nonce` makes it unique.
    pub fn write(&self, holder: Holder, nonce: Uuid, expires_at: Time) -> String {
        let mut bytes = nonce.as_bytes().to_vec();
        bytes.extend(expires_at.timestamp_micros().to_be_bytes());
        let mac = self.0.sign(&message(holder, &bytes));
        bytes.extend(&mac.as_ref()[..TAG_LEN]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token, expired or not; `None` unless it was written for `holder`.
    pub fn read(&self, holder: Holder, token: &str) -> Option<ConflictToken> {
        let mut bytes = [0; BODY_LEN + TAG_LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
        let (body, tag) = bytes.get(..len)?.split_first_chunk::<BODY_LEN>()?;
        let same =
            |mac: &hmac::Tag| subtle::ConstantTimeEq::ct_eq(&mac.as_ref()[..TAG_LEN], tag).into();
        let mac = self.0.find(&message(holder, body), same)?;
        let name = &mac.as_ref()[TAG_LEN..];
        let micros = body[NONCE_LEN..].try_into().expect("eight bytes");
        Some(ConflictToken {
            request: RequestId {
                id: Uuid::new_v8(name.try_into().expect("half of SHA-256")),
                fingerprint: fingerprint(token),
            },
            expires_at: DateTime::from_timestamp_micros(i64::from_be_bytes(micros))?,
        })
    }
}

fn message((tenant, user, client): Holder, body: &[u8]) -> Vec<u8> {
    // NUL separates the parts: none can contain it, since control characters are refused.
    let holder = format!("{tenant}\0{user}\0{client}");
    [body, holder.as_bytes()].concat()
}

fn fingerprint(token: &str) -> [u8; 32] {
    let named = format!("conflict token\0{token}");
    digest(&SHA256, named.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn tokens() -> ConflictTokens {
        ConflictTokens(DerivedKey::of([hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])]))
    }

    fn names(user: &str, client: &str) -> (TenantId, UserId, ClientId) {
        let tenant = TenantId::parse("").unwrap();
        (tenant, UserId::parse(user).unwrap(), ClientId::parse(client).unwrap())
    }

    fn time(micros: i64) -> Time {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    proptest! {
        #[test]
        fn a_token_is_read_for_its_own_holder_only(
            user in "[ab]{1,3}", client in "[ab]{1,3}", nonce in any::<u128>(), at in any::<u32>(),
            (other_user, other_client) in ("[ab]{1,3}", "[ab]{1,3}"),
        ) {
            let (mine, theirs) = (names(&user, &client), names(&other_user, &other_client));
            let written = tokens().write(
                (&mine.0, &mine.1, &mine.2), Uuid::from_u128(nonce), time(at.into()),
            );
            let read = tokens().read((&mine.0, &mine.1, &mine.2), &written).unwrap();
            prop_assert_eq!(read.expires_at, time(at.into()));
            let foreign = tokens().read((&theirs.0, &theirs.1, &theirs.2), &written);
            prop_assert_eq!(foreign.is_some(), mine == theirs);
        }

        #[test]
        fn nothing_else_is_a_token(text in ".*") {
            let (tenant, user, client) = names("ada", "web");
            prop_assert!(tokens().read((&tenant, &user, &client), &text).is_none());
        }
    }

    #[test]
    fn every_token_has_an_id_that_it_does_not_tell() {
        let (tenant, user, client) = names("ada", "web");
        let holder = (&tenant, &user, &client);
        let ids = [1, 2].map(|nonce| {
            let token = tokens().write(holder, Uuid::from_u128(nonce), time(7));
            let id = tokens().read(holder, &token).unwrap().request.id;
            let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            assert!(!bytes.windows(6).any(|part| part == &id.as_bytes()[..6]));
            id
        });
        assert_ne!(ids[0], ids[1]);
    }
}
