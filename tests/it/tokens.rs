//! The server's own tokens: any change makes one invalid, and the key set alone verifies one.

use chrono::{DateTime, Duration};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::grpc::pb::InactiveReason as Why;

use crate::harness::calls::{new_session, parts, reason};
use crate::harness::cluster::Db;
use crate::harness::forge::claims;
use crate::harness::{TestServer, start, start_on};

/// Every one-byte change, every truncation, and some extensions of a token.
fn spoilt(token: &str) -> Vec<String> {
    let mut spoilt: Vec<String> = (0..token.len()).map(|at| token[..at].to_owned()).collect();
    for at in 0..token.len() {
        for flip in [1, 2] {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] ^= flip;
            spoilt.push(String::from_utf8(bytes).expect("ASCII stays ASCII"));
        }
    }
    let ends = ["A", "=", "==", ".", ".AAAA", " ", "\n", "\0", "AAAA"];
    spoilt.extend(ends.map(|end| format!("{token}{end}")));
    spoilt.extend([format!(" {token}"), format!("Bearer {token}"), token.repeat(2)]);
    spoilt
}

async fn untouched(server: &TestServer, session: &pb::Session) {
    let now = server.get(&session.session_id).await.expect("a session");
    assert_eq!(&now, session);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_cut_or_extended_access_token_is_active() {
    let server = start().await;
    let created = server.create("ada").await;
    let (_, access, _) = parts(&created);
    for token in spoilt(&access) {
        let judgement = server.validate(&token).await;
        assert_eq!(judgement.outcome(), pb::Outcome::Inactive, "{token:?}");
        let why = judgement.inactive_reason();
        assert!(matches!(why, Why::Malformed | Why::SignatureInvalid), "{why:?}: {token:?}");
        assert_eq!(judgement.session, None, "{token:?}");
    }
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_cut_or_extended_refresh_token_is_taken_and_the_session_stays() {
    let server = start().await;
    let created = server.create("ada").await;
    let (_, _, refresh) = parts(&created);
    for token in spoilt(&refresh) {
        let refusal = server.refresh(&token).await.expect_err(&token);
        assert_eq!(refusal.code(), tonic::Code::FailedPrecondition, "{token:?}");
        assert_eq!(reason(&refusal), "REFRESH_TOKEN_INVALID", "{token:?}");
    }
    untouched(&server, &created.session.expect("a session")).await;
    assert_eq!(server.activities(2).await, 0);
    server.refresh(&refresh).await.expect("a successor");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spoilt_token_ends_a_session() {
    use pb::terminate_session_request::Target;

    let server = start().await;
    let created = server.create("ada").await;
    let (_, access, refresh) = parts(&created);
    let of_access = spoilt(&access).into_iter().step_by(7).map(Target::AccessToken);
    let of_refresh = spoilt(&refresh).into_iter().map(Target::RefreshToken);
    for target in of_access.chain(of_refresh) {
        let shown = format!("{target:?}");
        let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
        assert_eq!(server.terminate_as(request).await.expect("ok"), None, "{shown}");
    }
    untouched(&server, &created.session.expect("a session")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kind_of_token_does_not_pass_for_the_other() {
    let server = start().await;
    let created = server.create("ada").await;
    let (id, access, refresh) = parts(&created);
    assert_eq!(server.validate(&refresh).await.inactive_reason(), Why::Malformed);
    assert_eq!(server.validate(&id).await.inactive_reason(), Why::Malformed);
    for token in [&access, &id] {
        let refusal = server.refresh(token).await.expect_err("a refusal");
        assert_eq!(reason(&refusal), "REFRESH_TOKEN_INVALID");
    }
    untouched(&server, &created.session.expect("a session")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_beyond_12288_bytes_is_malformed() {
    let server = start().await;
    for length in [0, 12_288, 12_289, 30_000] {
        let judgement = server.validate(&"a".repeat(length)).await;
        assert_eq!(judgement.inactive_reason(), Why::Malformed, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_another_database_are_worth_nothing() {
    let (server, other) = (start().await, start().await);
    let (_, access, refresh) = parts(&other.create("ada").await);
    server.create("ada").await;
    let judgement = server.validate(&access).await;
    assert_eq!(judgement.inactive_reason(), Why::SignatureInvalid);
    let refusal = server.refresh(&refresh).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "REFRESH_TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_library_verifies_an_access_token_with_the_key_set_alone() {
    // The library uses the system's time.
    let server = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let audiences = vec!["https://api.example".to_owned()];
    let request = pb::CreateSessionRequest { audiences, ..new_session("ada") };
    let (id, access, _) = parts(&server.try_create(request).await.expect("a session"));
    let request = pb::GetJsonWebKeySetRequest {};
    let set = server.sessions().get_json_web_key_set(request).await.expect("keys").into_inner();

    let jwks: JwkSet = serde_json::from_str(&set.jwks_json).expect("a JWK set");
    let header = jsonwebtoken::decode_header(&access).expect("a header");
    let kid = header.kid.expect("a kid");
    let jwk = jwks.find(&kid).expect("the key of the token");
    let key = DecodingKey::from_jwk(jwk).expect("a key");
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    rules.validate_nbf = true;
    rules.set_issuer(&["sessiond"]);
    rules.set_audience(&["https://api.example"]);
    let verified = jsonwebtoken::decode::<Value>(&access, &key, &rules).expect("a good token");
    assert_eq!(verified.claims["sub"], "ada");
    assert_eq!(verified.claims["sid"], id);

    let typed = set.keys.iter().find(|key| key.kid == kid).expect("the typed form");
    let document: Value = serde_json::from_str(&set.jwks_json).expect("JSON");
    assert_eq!(set.keys.len(), document["keys"].as_array().expect("keys").len());
    let members = [&typed.kty, &typed.crv, &typed.alg, &typed.r#use, &typed.x];
    for (name, member) in ["kty", "crv", "alg", "use", "x"].into_iter().zip(members) {
        assert_eq!(&document["keys"][0][name], member, "{name}");
    }
    rules.set_audience(&["https://other.example"]);
    assert!(jsonwebtoken::decode::<Value>(&access, &key, &rules).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_expires_at_the_moment_it_states() {
    let server = start().await;
    let created = server.create("ada").await;
    let (_, access, refresh) = parts(&created);
    let expires = created.tokens.expect("tokens").access_token_expire_time.expect("a time");
    assert_eq!((claims(&access)["exp"].as_i64(), expires.nanos), (Some(expires.seconds), 0));
    let left = DateTime::from_timestamp(expires.seconds, 0).expect("a time") - server.clock.now();
    assert!(left >= Duration::minutes(5) && left < Duration::minutes(5) + Duration::seconds(1));
    server.advance(left - Duration::microseconds(1));
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    server.advance(Duration::microseconds(1));
    let judgement = server.validate(&access).await;
    assert_eq!(judgement.inactive_reason(), Why::TokenExpired);
    let session = judgement.session.expect("the session");
    assert_eq!(session.state(), pb::SessionState::Active);
    let tokens = server.refresh(&refresh).await.expect("a successor").tokens.expect("tokens");
    assert_eq!(server.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);
}
