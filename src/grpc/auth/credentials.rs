//! The credentials of a request: the client certificate of its connection, and its API key.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::caller::directory::Credentials;
use crate::caller::key::PresentedKey;
use crate::error::{Error, Result};
use crate::model::caller::connection::CallerConnection;

const SCHEME: &[u8] = b"bearer ";

/// The credentials of a request.
///
/// # Errors
/// [`Error::UnknownCaller`] for an `authorization` that is not exactly one API key.
pub fn of(connection: &Arc<CallerConnection>, headers: &HeaderMap) -> Result<Credentials> {
    let mut stated = headers.get_all(AUTHORIZATION).iter();
    let key = match (stated.next(), stated.next()) {
        (None, _) => None,
        (Some(one), None) => Some(key(one.as_bytes()).ok_or(Error::UnknownCaller)?),
        (Some(_), Some(_)) => return Err(Error::UnknownCaller),
    };
    Ok(Credentials { connection: connection.clone(), key })
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
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let address = "127.0.0.1:1".parse().unwrap();
        of(&Arc::new(CallerConnection::new(address, Arc::default())), &headers)
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
}
