//! Handmade access tokens: each is the server's own except for one part, and signed with a key that the server trusts,
//! so that the verdict depends on that part alone.

use chrono::Duration;
use serde_json::{Value, json};
use sessiond::grpc::pb;
use sessiond::grpc::pb::InactiveReason as Why;

use crate::harness::TestServer;
use crate::harness::calls::{new_session, parts};
use crate::harness::forge::{Forge, claims, message, start_with_forge};
use crate::harness::requests::NOBODY;

const REQUIRED: [&str; 12] =
    ["iss", "sub", "client_id", "aud", "exp", "nbf", "iat", "jti", "sid", "tid", "did", "rg"];
/// The claims about the authentication are optional, and do not affect validation.
const OPTIONAL: [&str; 3] = ["acr", "amr", "auth_time"];

struct Bench {
    server: TestServer,
    forge: Forge,
    /// The claims of a token that the server issued for a live session.
    claims: Value,
}

async fn bench() -> Bench {
    let (server, forge) = start_with_forge().await;
    let authentication = pb::Authentication {
        acr: "urn:acr:2".to_owned(),
        amr: vec!["pwd".to_owned(), "otp".to_owned()],
        auth_time: None,
    };
    let request =
        pb::CreateSessionRequest { authentication: Some(authentication), ..new_session("ada") };
    let (_, access, _) = parts(&server.try_create(request).await.expect("a session"));
    Bench { server, forge, claims: claims(&access) }
}

impl Bench {
    fn with(&self, claim: &str, value: Value) -> Value {
        let mut claims = self.claims.clone();
        claims[claim] = value;
        claims
    }

    fn without(&self, claim: &str) -> Value {
        let mut claims = self.claims.clone();
        claims.as_object_mut().expect("claims").remove(claim).expect("a claim of the token");
        claims
    }

    async fn judge(&self, claims: &Value) -> Result<(), Why> {
        self.judge_token(&self.forge.token(&self.forge.header(), claims)).await
    }

    async fn judge_token(&self, token: &str) -> Result<(), Why> {
        let judgement = self.server.validate(token).await;
        match judgement.outcome() {
            pb::Outcome::Active => Ok(()),
            _ => Err(judgement.inactive_reason()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_claims_signed_by_hand_are_active() {
    let bench = bench().await;
    assert_eq!(bench.judge(&bench.claims).await, Ok(()));
    let names: Vec<&String> = bench.claims.as_object().expect("claims").keys().collect();
    let known: Vec<&str> = REQUIRED.into_iter().chain(OPTIONAL).collect();
    assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
    assert_eq!(names.len(), known.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lacks_a_claim_is_malformed() {
    let bench = bench().await;
    for claim in REQUIRED {
        assert_eq!(bench.judge(&bench.without(claim)).await, Err(Why::Malformed), "no {claim}");
    }
    assert_eq!(bench.judge(&json!({})).await, Err(Why::Malformed));
    for claim in OPTIONAL {
        assert_eq!(bench.judge(&bench.without(claim)).await, Ok(()), "no {claim}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_a_claim_of_another_type_is_malformed() {
    let bench = bench().await;
    for claim in REQUIRED.into_iter().chain(OPTIONAL) {
        let right = bench.claims[claim].clone();
        let mut wrong = match &right {
            Value::String(text) => vec![json!(7), json!([text])],
            Value::Number(number) => vec![json!(number.to_string()), json!(1.5), json!([number])],
            Value::Array(items) => vec![items[0].clone(), json!([7]), json!([null])],
            other => panic!("a claim like {other}"),
        };
        wrong.extend([json!({ "a": right }), json!(true)]);
        if REQUIRED.contains(&claim) {
            wrong.push(Value::Null);
        }
        for value in wrong {
            let claims = bench.with(claim, value.clone());
            assert_eq!(bench.judge(&claims).await, Err(Why::Malformed), "{claim} = {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_a_claim_out_of_its_range_is_malformed() {
    let bench = bench().await;
    let cases = [
        ("sid", json!("no UUID")),
        ("sid", json!("")),
        ("did", json!("no UUID")),
        ("tid", json!("")),
        ("tid", json!("no spaces")),
        ("sub", json!("")),
        ("sub", json!("a\u{0}b")),
        ("rg", json!(-1)),
        ("rg", json!(u64::MAX)),
        ("exp", json!(1e300)),
        ("nbf", json!(u64::MAX)),
    ];
    for (claim, value) in cases {
        let claims = bench.with(claim, value.clone());
        assert_eq!(bench.judge(&claims).await, Err(Why::Malformed), "{claim} = {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_names_an_algorithm_a_type_and_a_key_of_the_service() {
    let bench = bench().await;
    let header = |name: &str, value: Value| {
        let mut header = bench.forge.header();
        header[name] = value;
        header
    };
    let without = |name: &str| {
        let mut header = bench.forge.header();
        header.as_object_mut().expect("a header").remove(name);
        header
    };
    let cases = [
        (header("alg", json!("none")), Why::Malformed),
        (header("alg", json!("NONE")), Why::Malformed),
        (header("alg", json!("HS256")), Why::SignatureInvalid),
        (header("alg", json!("ES256")), Why::SignatureInvalid),
        (header("alg", json!(null)), Why::Malformed),
        (without("alg"), Why::Malformed),
        (header("typ", json!("JWT")), Why::Malformed),
        (header("typ", json!("rt+jwt")), Why::Malformed),
        (header("typ", json!(7)), Why::Malformed),
        (without("typ"), Why::Malformed),
        (header("kid", json!("unknown")), Why::SignatureInvalid),
        (header("kid", json!("")), Why::SignatureInvalid),
        (header("kid", json!(7)), Why::Malformed),
        (without("kid"), Why::Malformed),
    ];
    for (header, why) in cases {
        let token = bench.forge.token(&header, &bench.claims);
        assert_eq!(bench.judge_token(&token).await, Err(why), "{header}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_signature_or_with_another_kind_of_it_is_inactive() {
    let bench = bench().await;
    let mut header = bench.forge.header();
    let unsigned = format!("{}.", message(&header, &bench.claims));
    assert_eq!(bench.judge_token(&unsigned).await, Err(Why::SignatureInvalid));
    let mac = bench.forge.mac_token(&header, &bench.claims);
    assert_eq!(bench.judge_token(&mac).await, Err(Why::SignatureInvalid));

    header["alg"] = json!("HS256");
    let mac = bench.forge.mac_token(&header, &bench.claims);
    assert_eq!(bench.judge_token(&mac).await, Err(Why::SignatureInvalid));
    header["alg"] = json!("none");
    for end in [".", "", ".AAAA"] {
        let unsigned = format!("{}{end}", message(&header, &bench.claims));
        assert_eq!(bench.judge_token(&unsigned).await, Err(Why::Malformed), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_issuer_or_for_another_audience_is_inactive() {
    let bench = bench().await;
    for issuer in ["elsewhere", "", "sessiond ", "Sessiond"] {
        let claims = bench.with("iss", json!(issuer));
        assert_eq!(bench.judge(&claims).await, Err(Why::WrongIssuer), "{issuer:?}");
    }
    let token = bench.forge.token(
        &bench.forge.header(),
        &bench.with("aud", json!(["https://a.example", "https://b.example"])),
    );
    let audiences = [
        ("", Why::Unspecified),
        ("https://a.example", Why::Unspecified),
        ("https://b.example", Why::Unspecified),
        ("https://a.example/", Why::WrongAudience),
        ("sessiond", Why::WrongAudience),
    ];
    for (audience, why) in audiences {
        let request = pb::ValidateSessionRequest {
            access_token: token.clone(),
            audience: audience.to_owned(),
            ..Default::default()
        };
        let judgement = bench.server.sessions().validate_session(request).await;
        let judgement = judgement.expect("a judgement").into_inner();
        assert_eq!(judgement.inactive_reason(), why, "{audience:?}");
        let active = judgement.outcome() == pb::Outcome::Active;
        assert_eq!(active, why == Why::Unspecified, "{audience:?}");
    }
    assert_eq!(bench.judge(&bench.with("aud", json!([]))).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_in_date_until_exp_without_leeway_whatever_nbf_says() {
    let bench = bench().await;
    let now = bench.server.clock.now().timestamp();
    let cases = [
        ("nbf", now + 5, Ok(())),
        // Such a token exists only after a clock was set back, and its session is active.
        ("nbf", now + 6, Ok(())),
        ("nbf", i64::MAX, Ok(())),
        ("nbf", i64::MIN, Ok(())),
        ("exp", now + 1, Ok(())),
        ("exp", now, Err(Why::TokenExpired)),
        ("exp", i64::MIN, Err(Why::TokenExpired)),
    ];
    for (claim, value, judged) in cases {
        let claims = bench.with(claim, json!(value));
        assert_eq!(bench.judge(&claims).await, judged, "{claim} = {value}");
    }
    let last = bench.forge.token(&bench.forge.header(), &bench.with("exp", json!(now + 1)));
    bench.server.advance(Duration::seconds(1));
    assert_eq!(bench.judge_token(&last).await, Err(Why::TokenExpired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_no_session_is_of_an_unknown_one() {
    let bench = bench().await;
    for (claim, value) in [("sid", NOBODY), ("sub", "bob"), ("tid", "acme")] {
        let claims = bench.with(claim, json!(value));
        assert_eq!(bench.judge(&claims).await, Err(Why::SessionUnknown), "{claim} = {value}");
    }
}
