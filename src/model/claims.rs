//! Custom claims: what a platform adds to the access tokens of a session.

use std::fmt;

use serde_json::{Map, Value};

/// Claims of the caller's own: a JSON object with at least one member, none of them of a reserved name.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomClaims(String);

/// The most bytes of the object, as JSON without white space.
pub const MAX_BYTES: usize = 2048;
/// How deep it may be nested; the object itself is the first level.
pub const MAX_DEPTH: usize = 8;

/// Reserved names: claims that the service writes itself, or that a standard defines: RFC 7519 (section 4.1), RFC 7800,
/// RFC 8693, RFC 9068 and OpenID Connect Core.
pub const RESERVED: [&str; 24] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "sid",
    "tid",
    "did",
    "rg",
    "acr",
    "amr",
    "auth_time",
    "client_id",
    "scope",
    "cnf",
    "act",
    "may_act",
    "azp",
    "at_hash",
    "c_hash",
    "nonce",
    "events",
];

impl CustomClaims {
    /// Parses an object; an empty one counts as absent.
    ///
    /// # Errors
    /// Every rule that it breaks, reading on after the field's name.
    pub fn new(object: Map<String, Value>) -> Result<Option<CustomClaims>, Vec<String>> {
        if object.is_empty() {
            return Ok(None);
        }
        let reserved = RESERVED.iter().filter(|name| object.contains_key(**name));
        let mut broken: Vec<String> =
            reserved.map(|name| format!("must not have the reserved member `{name}`")).collect();
        let object = Value::Object(object);
        if is_deeper(&object, MAX_DEPTH) {
            broken.push(format!("must be at most {MAX_DEPTH} levels deep"));
        }
        if has_nul(&object) {
            broken.push("must not contain U+0000, which the database cannot keep".to_owned());
        }
        let text = object.to_string();
        if text.len() > MAX_BYTES {
            broken.push(format!("must be at most {MAX_BYTES} bytes as JSON"));
        }
        if broken.is_empty() { Ok(Some(CustomClaims(text))) } else { Err(broken) }
    }

    /// Parses the output of [`CustomClaims::as_json`].
    ///
    /// # Errors
    /// The rules of [`CustomClaims::new`] that it breaks.
    pub fn parse(json: &str) -> Result<CustomClaims, String> {
        let object = serde_json::from_str(json).map_err(|_| "must be a JSON object".to_owned())?;
        let claims = CustomClaims::new(object).map_err(|rules| rules.join("; "))?;
        claims.ok_or_else(|| "must not be empty".to_owned())
    }

    /// The object, without white space; the same claims give the same text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The members.
    pub fn members(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).expect("made from an object")
    }
}

/// Only their names: the values are the platform's data.
impl fmt::Debug for CustomClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members().keys()).finish()
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let mut members: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Object(members) => Box::new(members.values()),
        Value::Array(elements) => Box::new(elements.iter()),
        _ => return false,
    };
    levels == 0 || members.any(|member| is_deeper(member, levels - 1))
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(elements) => elements.iter().any(has_nul),
        Value::Object(members) => {
            members.iter().any(|(name, member)| name.contains('\0') || has_nul(member))
        }
        _ => false,
    }
}

/// Whether this is a scope: 1 to 1024 characters, scope tokens with a space between each two (RFC 6749, section 3.3).
pub fn is_scope(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    let mut tokens = text.split(' ');
    text.len() <= 1024 && tokens.all(|token| !token.is_empty() && token.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn new(value: Value) -> Result<Option<CustomClaims>, Vec<String>> {
        CustomClaims::new(value.as_object().expect("an object").clone())
    }

    #[test]
    fn claims_keep_their_limits_at_the_edge() {
        let sized = |bytes: usize| json!({ "k": "x".repeat(bytes - r#"{"k":""}"#.len()) });
        assert_eq!(new(sized(2048)).unwrap().unwrap().as_json().len(), 2048);
        assert_eq!(new(sized(2049)), Err(vec!["must be at most 2048 bytes as JSON".to_owned()]));
        let nested = |levels| (1..levels).fold(json!({}), |inner, _| json!({ "k": inner }));
        assert!(new(nested(8)).is_ok());
        assert_eq!(new(nested(9)), Err(vec!["must be at most 8 levels deep".to_owned()]));
        assert_eq!(new(json!({})), Ok(None));
        for name in RESERVED {
            let rules = new(json!({ name: 1, "fine": 2 })).expect_err(name);
            assert_eq!(rules, [format!("must not have the reserved member `{name}`")]);
        }
        assert!(new(json!({ "fine": { "sub": 1 } })).is_ok(), "reserved at the top alone");
        for bad in [json!({ "a": "\0" }), json!({ "a\0": 1 }), json!({ "a": [{ "b\0": {} }] })] {
            assert!(new(bad.clone()).is_err_and(|rules| rules[0].contains("U+0000")), "{bad}");
        }
        assert!(new(json!({ "a": "\\u0000\u{1}" })).is_ok());
    }

    #[test]
    fn every_rule_that_is_broken_is_named() {
        let bad = json!({ "sub": 1, "iss": 2, "a": "\0", "b": "x".repeat(2048) });
        let rules = [
            "must not have the reserved member `iss`",
            "must not have the reserved member `sub`",
            "must not contain U+0000, which the database cannot keep",
            "must be at most 2048 bytes as JSON",
        ];
        assert_eq!(new(bad), Err(rules.map(str::to_owned).to_vec()));
    }

    #[test]
    fn claims_come_back_as_they_went_in() {
        let claims =
            new(json!({ "z": [1, 2.5, null], "a": { "ü": "\u{1F600}" } })).unwrap().unwrap();
        assert_eq!(CustomClaims::parse(claims.as_json()).unwrap(), claims);
        assert_eq!(format!("{claims:?}"), r#"{"a", "z"}"#);
    }

    #[test]
    fn a_scope_is_tokens_with_single_spaces() {
        for good in ["a", "a b", "openid https://api/x:read", &"a".repeat(1024)] {
            assert!(is_scope(good), "{good}");
        }
        for bad in ["", " ", " a", "a ", "a  b", "a\tb", "a\"b", "a\\b", "ü", &"a".repeat(1025)] {
            assert!(!is_scope(bad), "{bad}");
        }
    }
}
