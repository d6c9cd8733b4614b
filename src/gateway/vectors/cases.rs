//! The cases of the vectors: what a verifier receives, when, and the verdicts that it must give.

mod time;

use chrono::{DateTime, Duration, SecondsFormat};
use serde_json::{Value, json};

use super::tokens::{DEVICE, ISSUED, KID, SESSION, TENANT, USER};
use crate::model::ids::{TenantId, UserId};
use crate::model::revocation::digest;

/// All cases.
pub fn all() -> Vec<Value> {
    let mut all = vec![tokens()];
    all.extend(revocations());
    all.extend(edges());
    all.extend(time::freshness());
    all.extend(time::clocks());
    all
}

fn case(name: &str, about: &str, steps: Vec<Value>) -> Value {
    json!({ "name": name, "about": about, "steps": steps })
}

/// The moment this much after the tokens were issued, by the service's clock.
fn at(ms: i64) -> String {
    let time = DateTime::from_timestamp(ISSUED, 0).expect("a time") + Duration::milliseconds(ms);
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn open(at_ms: u32) -> Value {
    json!({ "at_ms": at_ms, "open": true })
}

/// A message of the service, which covers everything committed before `checked`.
fn sent(at_ms: u32, checked: i64, resync: bool, revocations: Vec<Value>) -> Value {
    json!({ "at_ms": at_ms, "message": {
        "resync": resync, "revocations": revocations, "checkedTime": at(checked),
    } })
}

/// A stream opened at 0, with the answer 20 ms later that these revocations are in force, half a second after the
/// tokens were issued.
fn begun(revocations: Vec<Value>) -> Vec<Value> {
    vec![open(0), sent(20, 500, true, revocations)]
}

fn judged(at_ms: u32, token: &str, verdict: &str, reason: &str) -> Value {
    let mut step = json!({ "at_ms": at_ms, "token": token, "verdict": verdict });
    if !reason.is_empty() {
        step["reason"] = reason.into();
    }
    step
}

fn accepted(at_ms: u32, token: &str) -> Value {
    judged(at_ms, token, "accept", "")
}

fn asked(at_ms: u32, token: &str) -> Value {
    judged(at_ms, token, "ask", "")
}

fn stale(at_ms: u32, token: &str) -> Value {
    judged(at_ms, token, "stale", "")
}

/// A revocation at the time when the tokens were issued.
fn revocation(level: &str, subject: &str) -> Value {
    json!({
        "level": format!("REVOCATION_LEVEL_{level}"), "subject": subject, "belowGeneration": 0,
        "revokeTime": at(0), "evictTime": at(600_000),
    })
}

fn below(generation: u32) -> Value {
    let mut revocation = revocation("SESSION", SESSION);
    revocation["belowGeneration"] = generation.into();
    revocation
}

fn user_of(name: &str) -> String {
    let tenant = TenantId::parse(TENANT).expect("a tenant");
    digest(&tenant, &UserId::parse(name).expect("a user"))
}

/// Nothing is revoked: the verdict depends on the token alone.
fn tokens() -> Value {
    let mut steps = begun(vec![]);
    for token in ["valid", "es256", "rs256", "valid_with_the_least_claims"] {
        steps.push(accepted(100, token));
    }
    let malformed = [
        "type_jwt",
        "type_missing",
        "kid_missing",
        "critical_extension",
        "algorithm_none",
        "audience_as_text",
        "exp_as_text",
        "empty_tenant",
        "two_parts",
        "four_parts",
        "empty",
        "padded",
        "no_base64",
        "without_iss",
        "without_sub",
        "without_client_id",
        "without_aud",
        "without_exp",
        "without_nbf",
        "without_iat",
        "without_jti",
        "without_sid",
        "without_tid",
        "without_did",
        "without_rg",
    ];
    steps.extend(malformed.map(|token| judged(100, token, "refuse", "MALFORMED")));
    let forged = [
        "signature_of_another_token",
        "without_a_signature",
        "algorithm_of_another_key",
        "mac_with_the_public_key",
    ];
    steps.extend(forged.map(|token| judged(100, token, "refuse", "SIGNATURE_INVALID")));
    steps.push(judged(100, "other_issuer", "refuse", "WRONG_ISSUER"));
    steps.push(judged(100, "other_audience", "refuse", "WRONG_AUDIENCE"));
    steps.push(judged(100, "no_audience", "refuse", "WRONG_AUDIENCE"));
    // The revocations are of one tenant only, and the key may be newer than the key set.
    steps.push(asked(100, "other_tenant"));
    steps.push(asked(100, "kid_unknown"));
    case("tokens", "Nothing is revoked. The key set was fetched 5 s ago.", steps)
}

fn revocations() -> Vec<Value> {
    let one = |name: &str, about: &str, revocation: Value, judgements: Vec<Value>| {
        let mut steps = begun(vec![revocation]);
        steps.extend(judgements);
        case(name, about, steps)
    };
    vec![
        one(
            "session",
            "A session ended: all its tokens.",
            revocation("SESSION", SESSION),
            vec![asked(100, "valid"), asked(100, "generation_3"), accepted(100, "other_session")],
        ),
        one(
            "generation",
            "Tokens of a session below a generation.",
            below(2),
            vec![asked(100, "generation_1"), accepted(100, "valid"), accepted(100, "generation_3")],
        ),
        one(
            "device",
            "A device.",
            revocation("DEVICE", DEVICE),
            vec![asked(100, "valid"), asked(100, "generation_3"), accepted(100, "other_device")],
        ),
        one(
            "user",
            "A user.",
            revocation("USER", &user_of(USER)),
            vec![asked(100, "valid"), asked(100, "other_device"), accepted(100, "other_user")],
        ),
        one(
            "tenant",
            "The tenant.",
            revocation("TENANT", ""),
            vec![asked(100, "valid"), asked(100, "other_user")],
        ),
        one(
            "key",
            "A key: what it signed, whenever.",
            revocation("KEY", KID),
            vec![asked(100, "valid"), asked(100, "issued_6_s_later"), accepted(100, "es256")],
        ),
        one(
            "unknown_level",
            "A level of a later release: nothing can be ruled out.",
            revocation("PLANET", "earth"),
            vec![asked(100, "valid"), asked(100, "es256")],
        ),
    ]
}

/// A revocation of a device, user or tenant covers tokens issued up to 5 s later.
fn edges() -> Vec<Value> {
    let user = user_of(USER);
    let kinds = [("DEVICE", DEVICE), ("USER", &user), ("TENANT", "")];
    let mut all: Vec<Value> = kinds
        .map(|(level, subject)| {
            let steps = vec![
                open(0),
                sent(20, 6_000, true, vec![revocation(level, subject)]),
                asked(100, "valid"),
                asked(100, "issued_5_s_later"),
                accepted(100, "issued_6_s_later"),
            ];
            let name = format!("issued_after_{}", level.to_lowercase());
            case(&name, "Tokens issued 0, 5 and 6 s after the revocation.", steps)
        })
        .into();
    let session = vec![
        open(0),
        sent(20, 6_000, true, vec![revocation("SESSION", SESSION)]),
        asked(100, "issued_6_s_later"),
    ];
    all.push(case("issued_after_session", "Of a session all tokens, whenever issued.", session));
    let mut old = revocation("SESSION", SESSION);
    old["evictTime"] = at(400).into();
    let evicted = vec![open(0), sent(20, 500, true, vec![old]), accepted(100, "valid")];
    all.push(case("evicted", "A revocation past its evict_time is forgotten.", evicted));
    all
}
