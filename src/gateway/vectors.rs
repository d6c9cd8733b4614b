//! The vectors of `testdata/gateway/`: generated here, and checked against this gateway. Gateways in other languages
//! run the same file.

mod cases;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::transport::Endpoint;

use super::credentials::GatewayCredentials;
use super::follow::Follower;
use super::{GatewayOptions, Mode, Shared, Verdict};
use crate::clock::Time;
use crate::grpc::pb;
use crate::model::ids::TenantId;
use tokens::{AUDIENCE, ISSUER, TENANT};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/gateway/vectors.json");
/// If set, the test writes the file.
const REMAKE: &str = "REMAKE_VECTORS";
/// The age of the key set in the vectors: an unknown key id may be a new key.
const KEYS_AGE: Duration = Duration::from_secs(5);

/// The whole file. Signatures of algorithms that draw random numbers, and the RSA key, are those of `before`, if they
/// fit.
fn make(before: &Value) -> Value {
    let (keys, tokens) = tokens::all(before);
    json!({
        "issuer": ISSUER,
        "tenant": TENANT,
        "audience": AUDIENCE,
        "staleness_bound_ms": 1000,
        "key_set": { "keys": keys },
        "tokens": tokens,
        "cases": cases::all(),
    })
}

fn committed() -> Value {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[test]
fn the_committed_vectors_are_those_that_are_made() {
    let before = committed();
    let made = make(&before);
    if std::env::var_os(REMAKE).is_some() {
        let text = serde_json::to_string_pretty(&made).expect("plain data") + "\n";
        std::fs::write(FILE, text).expect("a file that can be written");
        return;
    }
    assert!(made == before, "run `{REMAKE}=1 cargo test --lib vectors` and read what changed");
}

#[tokio::test]
async fn this_gateway_judges_each_vector_as_it_says() {
    let file = committed();
    let cases = file["cases"].as_array().expect("a list");
    let (mut judged, mut wrong) = (0, Vec::new());
    for case in cases {
        judged += run(&file, case, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() >= 28 && judged >= 106, "{} cases, {judged} verdicts", cases.len());
}

/// Every token occurs in a case.
#[test]
fn no_token_is_left_over() {
    let file = committed();
    let cases = file["cases"].to_string();
    for name in file["tokens"].as_object().expect("by name").keys() {
        assert!(cases.contains(&format!("\"token\":\"{name}\"")), "{name}");
    }
}

/// Runs the steps of a case and adds mismatches to `wrong`; returns how many verdicts it compared.
fn run(file: &Value, case: &Value, wrong: &mut Vec<String>) -> usize {
    let name = case["name"].as_str().expect("a name");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let options = GatewayOptions {
        audience: Some(text(&file["audience"])),
        tenant: text(&file["tenant"]),
        bound: Duration::from_millis(file["staleness_bound_ms"].as_u64().expect("a number")),
        mode: Mode::Strict,
        ..GatewayOptions::new(&text(&file["issuer"]))
    };
    let tenant = TenantId::parse(&options.tenant).expect("a tenant");
    let shared = Arc::new(Shared::new(tenant, options));
    shared.keys.replace(&key_set(file), Instant::now().checked_sub(KEYS_AGE).expect("up for long"));
    let channel = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
    let credentials = GatewayCredentials::new(None).expect("none");
    let mut follower = Follower::new(channel, credentials, shared.clone());
    let (begin, mut judged) = (Instant::now(), 0);
    for step in case["steps"].as_array().expect("a list") {
        let moment = begin + Duration::from_millis(step["at_ms"].as_u64().expect("a number"));
        if step["open"] == true {
            follower.asked = Some(moment);
        } else if let Some(sent) = step.get("message") {
            follower.received_at = moment;
            follower.apply(message(sent));
        } else {
            let token = text(&step["token"]);
            let known = text(&file["tokens"][&token]["token"]);
            let found = verdict(shared.judge(&known, moment));
            let expected = (text(&step["verdict"]), text(&step["reason"]));
            if found != expected {
                wrong.push(format!("{name}: {step} is {found:?}"));
            }
            judged += 1;
        }
    }
    judged
}

/// The file's name of a verdict, with the reason of a refusal.
fn verdict(verdict: Verdict) -> (String, String) {
    match verdict {
        Verdict::Active(_) => ("accept".to_owned(), String::new()),
        Verdict::Ask => ("ask".to_owned(), String::new()),
        Verdict::Stale => ("stale".to_owned(), String::new()),
        Verdict::Inactive(reason) => ("refuse".to_owned(), screaming(&format!("{reason:?}"))),
    }
}

fn screaming(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}

fn key_set(file: &Value) -> pb::GetJsonWebKeySetResponse {
    let text = |key: &Value, member: &str| key[member].as_str().unwrap_or_default().to_owned();
    let key = |key: &Value| pb::JsonWebKey {
        kid: text(key, "kid"),
        kty: text(key, "kty"),
        crv: text(key, "crv"),
        alg: text(key, "alg"),
        r#use: text(key, "use"),
        x: text(key, "x"),
        y: text(key, "y"),
        n: text(key, "n"),
        e: text(key, "e"),
    };
    let keys = file["key_set"]["keys"].as_array().expect("a list");
    pb::GetJsonWebKeySetResponse { keys: keys.iter().map(key).collect(), ..Default::default() }
}

/// A message from its JSON mapping (ProtoJSON), for the fields that the file uses.
fn message(sent: &Value) -> pb::WatchRevocationsResponse {
    let revocations = sent["revocations"].as_array().into_iter().flatten().map(|sent| {
        let level = sent["level"].as_str().and_then(pb::RevocationLevel::from_str_name);
        pb::Revocation {
            // An unknown name stands for a level of a later release.
            level: level.map_or(99, i32::from),
            subject: sent["subject"].as_str().unwrap_or_default().to_owned(),
            below_generation: sent["belowGeneration"].as_u64().unwrap_or(0) as u32,
            revoke_time: stamp(&sent["revokeTime"]),
            evict_time: stamp(&sent["evictTime"]),
        }
    });
    pb::WatchRevocationsResponse {
        resync: sent["resync"] == true,
        revocations: revocations.collect(),
        checked_time: stamp(&sent["checkedTime"]),
        ..Default::default()
    }
}

fn stamp(text: &Value) -> Option<prost_types::Timestamp> {
    let time: Time = text.as_str()?.parse().expect("a time of RFC 3339");
    Some(prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: time.timestamp_subsec_nanos() as i32,
    })
}
