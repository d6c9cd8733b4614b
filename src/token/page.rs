//! Page tokens: a position in a list, bound to the list's scope. They carry no authority.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Time;
use crate::error::Result;
use crate::model::page::PageKey;
use crate::token::derived::DerivedKey;
use crate::token::keys::KeyCache;

const TAG_LEN: usize = 16;

/// Writes and reads page tokens.
pub struct PageTokens(DerivedKey);

impl PageTokens {
    /// Uses keys that all replicas share, as of `now`.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn of(keys: &KeyCache, now: Time) -> Result<PageTokens> {
        Ok(PageTokens(keys.get().await?.derive("page token", now)?))
    }

    /// The token of the page after the row `last`, in the list described by `scope` (method,
    /// tenant, filter).
    pub fn encode(&self, scope: &[u8], last: impl PageKey) -> String {
        let last = last.to_bytes();
        let tag = self.0.sign(&[&last, scope].concat());
        URL_SAFE_NO_PAD.encode([&last, &tag.as_ref()[..TAG_LEN]].concat())
    }

    /// The row after which the page begins; `None` unless the token was made for this `scope`.
    pub fn decode<P: PageKey>(&self, scope: &[u8], token: &str) -> Option<P> {
        // What is longer than any key is not even decoded.
        let most = base64::encoded_len(P::MAX_BYTES + TAG_LEN, false)?;
        let bytes =
            URL_SAFE_NO_PAD.decode(Some(token).filter(|token| token.len() <= most)?).ok()?;
        let (last, tag) = bytes.split_last_chunk::<TAG_LEN>()?;
        let same = |expected: &hmac::Tag| {
            subtle::ConstantTimeEq::ct_eq(&expected.as_ref()[..TAG_LEN], tag.as_slice()).into()
        };
        self.0.find(&[last, scope].concat(), same).and_then(|_| P::from_bytes(last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use uuid::Uuid;

    use super::*;

    fn tokens() -> PageTokens {
        PageTokens(DerivedKey::of([hmac::Key::new(hmac::HMAC_SHA256, &[9; 32])]))
    }

    proptest! {
        #[test]
        fn a_token_returns_its_row_for_its_own_list_only(
            scope in any::<Vec<u8>>(), other in any::<Vec<u8>>(), id in any::<u128>(),
        ) {
            let last = Uuid::from_u128(id);
            let token = tokens().encode(&scope, last);
            prop_assert_eq!(tokens().decode::<Uuid>(&scope, &token), Some(last));
            prop_assert!(scope == other || tokens().decode::<Uuid>(&other, &token).is_none());
        }

        #[test]
        fn the_longest_names_have_tokens_too(name in "\\PC{0,128}", id in any::<u128>(), micros in 0..1i64 << 52) {
            let token = tokens().encode(b"scope", name.clone());
            prop_assert_eq!(tokens().decode::<String>(b"scope", &token), Some(name));
            let row = (Time::from_timestamp_micros(micros).unwrap(), Uuid::from_u128(id));
            let token = tokens().encode(b"scope", row);
            prop_assert_eq!(tokens().decode::<(Time, Uuid)>(b"scope", &token), Some(row));
        }

        #[test]
        fn nothing_else_is_a_token(text in ".*") {
            prop_assert!(tokens().decode::<Uuid>(b"scope", &text).is_none());
        }
    }

    #[test]
    fn no_changed_or_cut_token_passes() {
        let token = tokens().encode(b"scope", Uuid::from_u128(77));
        for at in 0..token.len() {
            for other in ["A", "b", "_"] {
                let mut changed = token.clone();
                changed.replace_range(at..=at, other);
                assert!(changed == token || tokens().decode::<Uuid>(b"scope", &changed).is_none());
            }
            assert!(tokens().decode::<Uuid>(b"scope", &token[..at]).is_none());
        }
        assert!(tokens().decode::<Uuid>(b"scope", &format!("{token}A")).is_none());
    }
}
