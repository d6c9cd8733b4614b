//! The cases of the vectors: what a verifier receives, when, and what it is to say of tokens.

use chrono::{DateTime, Duration, SecondsFormat};
use serde_json::{Value, json};

use super::tokens::{DEVICE, ISSUED, KID, SESSION, TENANT, USER};
use crate::model::ids::{TenantId, UserId};
use crate::model::revocation::digest;

/// All of them.
pub fn all() -> Vec<Value> {
    let mut all = vec![tokens()];
    all.extend(revocations());
    all.extend(edges());
    all.extend(freshness());
    all.extend(clocks());
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

/// What the service sends: all that was committed before `checked` is known with it.
fn sent(at_ms: u32, checked: i64, resync: bool, revocations: Vec<Value>) -> Value {
    json!({ "at_ms": at_ms, "message": {
        "resync": resync, "revocations": revocations, "checkedTime": at(checked),
    } })
}

/// A stream that was opened at once, with the answer 20 ms later that this is in force, half a second after the tokens
/// were issued.
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

/// Revoked when the tokens were issued.
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

/// Nothing is revoked: what a token is by itself.
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
    // The revocations are those of one tenant, and the key may be newer than the key set.
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

/// Of devices, users and tenants, tokens are meant that were issued up to 5 s later than the revocation.
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

fn freshness() -> Vec<Value> {
    let partial = json!({ "at_ms": 20, "message": {
        "resync": true, "revocations": [revocation("SESSION", SESSION)],
    } });
    vec![
        case(
            "nothing_received",
            "Before the first answer nothing is known.",
            vec![open(0), stale(10, "valid"), stale(10, "empty")],
        ),
        case(
            "half_a_list",
            "What is in force is known once checked_time is there.",
            vec![
                open(0),
                partial,
                stale(30, "other_session"),
                sent(40, 500, false, vec![]),
                accepted(50, "other_session"),
                asked(50, "valid"),
            ],
        ),
        // Counted from when the stream was asked for, as if the answer had been under way all the time.
        case(
            "bound",
            "Silence for as long as the bound, and for longer.",
            vec![
                open(0),
                sent(20, 500, true, vec![]),
                accepted(1_000, "valid"),
                stale(1_001, "valid"),
            ],
        ),
        case(
            "heartbeat",
            "A heartbeat renews.",
            vec![
                open(0),
                sent(20, 500, true, vec![]),
                sent(900, 1_380, false, vec![]),
                accepted(1_500, "valid"),
                stale(2_000, "valid"),
            ],
        ),
        case(
            "arrives_later",
            "A revocation that comes with a heartbeat.",
            vec![
                open(0),
                sent(20, 500, true, vec![]),
                accepted(100, "valid"),
                sent(200, 690, false, vec![revocation("SESSION", SESSION)]),
                asked(200, "valid"),
                accepted(200, "other_session"),
            ],
        ),
        case(
            "resync",
            "A resync replaces all that was kept.",
            vec![
                open(0),
                sent(20, 500, true, vec![revocation("SESSION", SESSION)]),
                asked(100, "valid"),
                sent(
                    200,
                    690,
                    true,
                    vec![revocation("DEVICE", "0190c0de-0000-7000-8000-0000000000d2")],
                ),
                accepted(200, "valid"),
                asked(200, "other_device"),
            ],
        ),
        case(
            "twice",
            "One revocation may be sent twice, the higher generation counts.",
            vec![
                open(0),
                sent(20, 500, true, vec![below(3)]),
                sent(30, 510, false, vec![below(2)]),
                asked(100, "valid"),
                accepted(100, "generation_3"),
            ],
        ),
        case(
            "audience_and_revocation",
            "A refusal by itself comes before a revocation.",
            vec![
                open(0),
                sent(20, 500, true, vec![revocation("TENANT", "")]),
                judged(100, "other_audience", "refuse", "WRONG_AUDIENCE"),
                judged(100, "signature_of_another_token", "refuse", "SIGNATURE_INVALID"),
            ],
        ),
        case(
            "stale_before_all",
            "Who knows too little says nothing of a token.",
            vec![open(0), sent(20, 500, true, vec![]), stale(5_000, "signature_of_another_token")],
        ),
    ]
}

/// The time is the service's: the verifier's own clock has no part in it.
fn clocks() -> Vec<Value> {
    let expired = |at_ms, token| judged(at_ms, token, "refuse", "TOKEN_EXPIRED");
    let beats = |from: u32, to: u32| {
        (from..to).step_by(500).map(|ms| sent(ms, i64::from(ms) + 480, false, vec![]))
    };
    let mut expiry = begun(vec![]);
    expiry.extend(beats(500, 2_000));
    // The stream was asked for at 0 and named 0.5 s after issue: the tokens are 1.5 s older than the verifier's 0.
    expiry.extend([accepted(1_499, "expires_after_2_s"), expired(1_500, "expires_after_2_s")]);
    let forward = vec![
        open(0),
        sent(20, 500, true, vec![]),
        accepted(100, "valid"),
        sent(200, 299_999, false, vec![]),
        accepted(200, "valid"),
        expired(201, "valid"),
    ];
    let back = vec![
        open(0),
        sent(20, 500, true, vec![]),
        accepted(100, "valid"),
        sent(200, -60_000, false, vec![]),
        stale(200, "valid"),
        open(300),
        sent(320, -59_880, false, vec![]),
        asked(330, "valid"),
    ];
    let a_little_back = vec![
        open(0),
        sent(20, -5_000, true, vec![]),
        accepted(100, "valid"),
        accepted(100, "valid"),
    ];
    let future = vec![
        open(0),
        sent(20, 0, true, vec![]),
        accepted(100, "issued_5_s_later"),
        asked(100, "issued_6_s_later"),
        sent(900, 1_000, false, vec![]),
        accepted(1_000, "issued_6_s_later"),
    ];
    let second = vec![
        open(0),
        sent(20, 298_980, true, vec![]),
        accepted(900, "valid"),
        accepted(1_000, "valid"),
        sent(1_010, 299_990, false, vec![]),
        accepted(1_019, "valid"),
        expired(1_020, "valid"),
        accepted(1_020, "issued_5_s_later"),
    ];
    vec![
        case("expires", "A token expires at its exp, by the service's time.", expiry),
        case("expires_at_the_second", "exp itself is too late.", second),
        case("clock_forward", "The service's clock is set forward by 5 minutes.", forward),
        case(
            "clock_back",
            "It is set back by a minute: what was issued before is asked about.",
            back,
        ),
        case("clock_back_a_little", "A token from 5 s ahead passes.", a_little_back),
        case(
            "not_yet_valid",
            "nbf may be 5 s ahead; a token from further ahead is asked about.",
            future,
        ),
    ]
}
