//! The credentials of a request: the client certificate of its connection, and its API key.

use http::Request;
use http::header::AUTHORIZATION;

use crate::caller::directory::Credentials;
use crate::caller::key::PresentedKey;
use crate::error::{Error, Result};
use crate::model::caller::{Identity, Peer};

const SCHEME: &[u8] = b"bearer ";

/// The credentials of a request.
///
/// # Errors
/// [`Error::UnknownCaller`] for an `authorization` that is not exactly one API key.
pub(super) fn of<A>(request: &Request<A>) -> Result<Credentials> {
    let identity = request.extensions().get().map(|peer: &Peer| peer.identity.clone());
    let mut stated = request.headers().get_all(AUTHORIZATION).iter();
    let key = match (stated.next(), stated.next()) {
        (None, _) => None,
        (Some(one), None) => Some(key(one.as_bytes()).ok_or(Error::UnknownCaller)?),
        (Some(_), Some(_)) => return Err(Error::UnknownCaller),
    };
    Ok(Credentials { identity: identity.unwrap_or(Identity::Unknown), key })
}

/// Parses `Bearer` in any case (RFC 9110, section 11.1), one space and the key.
fn key(value: &[u8]) -> Option<PresentedKey> {
    let (scheme, key) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| PresentedKey::parse(key))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::key::generate;

    fn with(values: &[&str]) -> Result<Credentials> {
        let mut request = Request::new(());
        for value in values {
            request.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
        }
        of(&request)
    }

    #[test]
    fn a_key_is_one_bearer_token_and_nothing_else() {
        let (key, text) = generate().unwrap();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let found = with(&[&format!("{scheme} {text}")]).ok().unwrap().key.unwrap();
            assert_eq!(found.id, key.id);
        }
        assert!(with(&[]).ok().unwrap().is_empty());
        let whole = format!("Bearer {text}");
        let odd = [
            "",
            "Bearer",
            "Bearer ",
            &text,
            &format!("Basic {text}"),
            &format!("Bearer  {text}"),
            &format!("Bearer {text} x"),
            "Bearer eyJhbGciOiJFZERTQSJ9.e30.x",
        ];
        for value in odd {
            assert!(with(&[value]).is_err(), "{value}");
        }
        assert!(with(&[&whole, &whole]).is_err(), "two are none");
    }

    #[test]
    fn the_certificate_is_that_of_the_connection() {
        let mut request = Request::new(());
        let address = "127.0.0.1:1".parse().unwrap();
        let identity = Identity::Certificate("spiffe://example.org/edge".to_owned());
        request.extensions_mut().insert(Peer { address, identity: identity.clone() });
        assert_eq!(of(&request).ok().unwrap().identity, identity);
    }
}
