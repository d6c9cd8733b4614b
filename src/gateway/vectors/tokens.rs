//! The keys and tokens of the vectors.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::token::access;
use crate::token::jwk::{Jwk, PublicKey, SigningAlgorithm, jwks};
use crate::token::pair::{Pair, generate};

pub const ISSUER: &str = "https://sessions.example";
pub const TENANT: &str = "acme";
pub const AUDIENCE: &str = "api";
/// When the tokens were issued, in seconds since the Unix epoch.
pub const ISSUED: i64 = 1_800_000_000;
pub const SESSION: &str = "0190c0de-0000-7000-8000-000000000001";
pub const DEVICE: &str = "0190c0de-0000-7000-8000-0000000000d1";
pub const USER: &str = "user-1";
/// The secret key and the key id of RFC 8032, section 7.1, test 1, and RFC 8037, appendix A.3.
const SECRET: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
pub const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

/// The key set, and the tokens by name.
pub fn all(before: &Value) -> (Value, Value) {
    let secret = URL_SAFE_NO_PAD.decode(SECRET).expect("base64url");
    let ed = Ed25519KeyPair::from_seed_unchecked(&secret).expect("32 bytes");
    let mut maker = Maker { pair: Pair::Ed25519(ed), tokens: Map::new() };
    good(&mut maker);
    other_claims(&mut maker);
    other_headers(&mut maker);
    broken(&mut maker);
    let (_, public) = maker.pair.public().expect("a key");
    let mut keys = vec![Jwk { kid: public.thumbprint(), key: public }];
    for (name, algorithm) in
        [("es256", SigningAlgorithm::Es256), ("rs256", SigningAlgorithm::Rs256)]
    {
        let (key, token) = random(before, name, algorithm);
        keys.push(key);
        maker.add(name, token);
    }
    let set: Value = serde_json::from_str(&jwks(&keys)).expect("JSON");
    (set["keys"].clone(), Value::Object(maker.tokens))
}

struct Maker {
    pair: Pair,
    tokens: Map<String, Value>,
}

impl Maker {
    fn add(&mut self, name: &str, token: String) {
        self.tokens.insert(name.to_owned(), json!({ "token": token }));
    }

    fn sign(&mut self, name: &str, header: &Value, claims: &Value) {
        let message = message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()));
        self.add(name, format!("{message}.{signature}"));
    }

    /// A token with these claims in place of the usual ones; null leaves one out.
    fn claims(&mut self, name: &str, changes: Value) {
        self.sign(name, &header("EdDSA", KID), &merged(claims(), changes));
    }
}

fn header(algorithm: &str, kid: &str) -> Value {
    json!({ "typ": "at+jwt", "alg": algorithm, "kid": kid })
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": USER, "client_id": "app", "aud": [AUDIENCE, "files"],
        "exp": ISSUED + 300, "nbf": ISSUED, "iat": ISSUED,
        "jti": "0190c0de-0000-8000-8000-00000000000a",
        "sid": SESSION, "tid": TENANT, "did": DEVICE, "rg": 2,
        "acr": "aal1", "amr": ["pwd"], "auth_time": ISSUED, "scope": "read write",
        "department": { "id": 7, "name": "Lager & Versand" },
    })
}

fn merged(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().expect("members") {
        match change {
            Value::Null => drop(value.as_object_mut().expect("members").remove(name)),
            change => value[name] = change.clone(),
        }
    }
    value
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn good(maker: &mut Maker) {
    maker.claims("valid", json!({}));
    let least = json!({ "acr": null, "amr": null, "scope": null, "department": null });
    maker.claims("valid_with_the_least_claims", least);
    maker.claims("generation_1", json!({ "rg": 1 }));
    maker.claims("generation_3", json!({ "rg": 3 }));
    maker.claims("other_session", json!({ "sid": "0190c0de-0000-7000-8000-000000000002" }));
    maker.claims("other_device", json!({ "did": "0190c0de-0000-7000-8000-0000000000d2" }));
    maker.claims("other_user", json!({ "sub": "user-2" }));
    for (name, later) in [("5_s", 5), ("6_s", 6)] {
        let (at, exp) = (ISSUED + later, ISSUED + 300 + later);
        let times = json!({ "iat": at, "nbf": at, "exp": exp });
        maker.claims(&format!("issued_{name}_later"), times);
    }
    maker.claims("expires_after_2_s", json!({ "exp": ISSUED + 2 }));
}

fn other_claims(maker: &mut Maker) {
    maker.claims("other_issuer", json!({ "iss": "https://other.example" }));
    maker.claims("other_tenant", json!({ "tid": "globex" }));
    maker.claims("empty_tenant", json!({ "tid": "" }));
    maker.claims("other_audience", json!({ "aud": ["files"] }));
    maker.claims("no_audience", json!({ "aud": [] }));
    maker.claims("audience_as_text", json!({ "aud": AUDIENCE }));
    maker.claims("exp_as_text", json!({ "exp": "1800000300" }));
    for name in
        ["iss", "sub", "client_id", "aud", "exp", "nbf", "iat", "jti", "sid", "tid", "did", "rg"]
    {
        maker.claims(&format!("without_{name}"), json!({ name: null }));
    }
}

fn other_headers(maker: &mut Maker) {
    let changes = [
        ("type_jwt", json!({ "typ": "JWT" })),
        ("type_missing", json!({ "typ": null })),
        ("kid_missing", json!({ "kid": null })),
        ("kid_unknown", json!({ "kid": "unknown" })),
        ("critical_extension", json!({ "crit": ["exp"], "exp": ISSUED })),
        ("algorithm_of_another_key", json!({ "alg": "ES256" })),
    ];
    for (name, change) in changes {
        maker.sign(name, &merged(header("EdDSA", KID), change), &claims());
    }
    // A token without signature, and one with a MAC whose secret is the public key.
    let none = message(&header("none", KID), &claims());
    maker.add("algorithm_none", format!("{none}."));
    let Ok((point, _)) = maker.pair.public() else { unreachable!("a key") };
    let message = message(&header("HS256", KID), &claims());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &point), message.as_bytes());
    maker.add("mac_with_the_public_key", format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag)));
}

fn broken(maker: &mut Maker) {
    let valid = maker.tokens["valid"]["token"].as_str().expect("text").to_owned();
    let parts: Vec<&str> = valid.split('.').collect();
    let other = maker.tokens["generation_3"]["token"].as_str().expect("text").to_owned();
    let theirs: Vec<&str> = other.split('.').collect();
    let spliced = format!("{}.{}.{}", parts[0], theirs[1], parts[2]);
    maker.add("signature_of_another_token", spliced);
    maker.add("without_a_signature", format!("{}.{}.", parts[0], parts[1]));
    maker.add("two_parts", format!("{}.{}", parts[0], parts[1]));
    maker.add("four_parts", format!("{valid}.{}", parts[2]));
    maker.add("padded", format!("{valid}="));
    maker.add("empty", String::new());
    maker.add("no_base64", "a$.b$.c$".to_owned());
}

/// A key that signs with random numbers or cannot be fixed here, with its token: those of the committed file, if the
/// token has the wanted content; else new ones.
fn random(before: &Value, name: &str, algorithm: SigningAlgorithm) -> (Jwk, String) {
    let token = before["tokens"][name]["token"].as_str().unwrap_or_default().to_owned();
    let keys = before["key_set"]["keys"].as_array();
    let member = |key: &Value, name: &str| key[name].as_str().unwrap_or_default().to_owned();
    let key = keys.into_iter().flatten().find(|key| key["alg"] == algorithm.name()).map(|key| {
        let public = match algorithm {
            SigningAlgorithm::Rs256 => PublicKey::Rsa { n: member(key, "n"), e: member(key, "e") },
            _ => PublicKey::P256 { x: member(key, "x"), y: member(key, "y") },
        };
        Jwk { kid: public.thumbprint(), key: public }
    });
    let wanted =
        |key: &Jwk| token.starts_with(&message(&header(algorithm.name(), &key.kid), &claims()));
    let fits = |key: &Jwk| {
        let verifying = key.key.verifying();
        wanted(key) && verifying.is_ok_and(|key| access::prove(&key, ISSUER, &token).is_ok())
    };
    if let Some(key) = key.filter(fits) {
        return (key, token);
    }
    let pair = generate(algorithm).and_then(|secret| Pair::open(algorithm, &secret));
    let pair = pair.expect("a key");
    let (_, public) = pair.public().expect("its public part");
    let key = Jwk { kid: public.thumbprint(), key: public };
    let message = message(&header(algorithm.name(), &key.kid), &claims());
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()));
    (key, format!("{message}.{signature}"))
}
