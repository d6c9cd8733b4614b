//! Custom scope and claims: stored with the session, and contained in its access tokens and in validations.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;
use sessiond::grpc::pb;
use sessiond::model::claims::RESERVED;

use crate::harness::calls::{new_session, parts, successor, violations};
use crate::harness::forge::claims;
use crate::harness::requests::NOBODY;
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, audit, start};

const SCOPE: &str = "openid orders:read";

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Struct {
    Struct { fields: members.map(|(name, value)| (name.to_owned(), value)).into() }
}

/// One of each kind of value.
fn all_kinds() -> Struct {
    let list = ListValue { values: vec![value(Kind::NumberValue(0.5)), value(Kind::NullValue(0))] };
    object([
        ("plan", text("gold \u{1F600} \"x\"")),
        ("seats", value(Kind::NumberValue(12.0))),
        ("trial", value(Kind::BoolValue(false))),
        ("rates", value(Kind::ListValue(list))),
        ("org", value(Kind::StructValue(object([("id", text("o-1"))])))),
    ])
}

fn with(scope: &str, claims: Option<Struct>) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest { scope: scope.to_owned(), claims, ..new_session("ada") }
}

/// Scope and claims in the access token, and in a validation of it.
async fn said(server: &TestServer, token: &str) -> [(String, Option<Struct>); 2] {
    let in_token = claims(token);
    let scope = in_token["scope"].as_str().unwrap_or_default().to_owned();
    let judged = server.validate(token).await;
    assert_eq!(judged.outcome(), pb::Outcome::Active);
    let session = judged.session.expect("a session");
    assert_eq!(session.scope, scope, "as in the token");
    let custom = in_token.as_object().expect("claims").iter().any(|(name, _)| name == "plan");
    assert_eq!(session.claims.as_ref().is_some_and(|c| c.fields.contains_key("plan")), custom);
    let read = server.get(&session.session_id).await.expect("a session");
    [(session.scope, session.claims), (read.scope, read.claims)]
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_and_claims_are_in_every_token_and_validation_until_a_step_up_changes_them() {
    let server = start().await;
    let replica = server.replica().await;
    let request = pb::CreateSessionRequest {
        request_id: NOBODY.to_owned(),
        ..with(SCOPE, Some(all_kinds()))
    };
    let created = server.try_create(request.clone()).await.expect("a session");
    let (id, access, refresh) = parts(&created);
    let both = (SCOPE.to_owned(), Some(all_kinds()));
    assert_eq!(said(&server, &access).await, [both.clone(), both.clone()]);
    assert_eq!(said(&server, &access).await[0], both, "also from the cache");
    assert_eq!(said(&replica, &access).await, [both.clone(), both.clone()]);
    let token = claims(&access);
    assert_eq!(token["rates"], json!([0.5, null]));
    assert_eq!((&token["seats"], &token["org"]), (&json!(12), &json!({ "id": "o-1" })));
    assert_eq!(token["sub"], "ada");

    let again = replica.try_create(request).await.expect("the same");
    assert_eq!(again, created);
    let next = successor(replica.refresh(&refresh).await);
    assert_eq!(said(&server, &next.access_token).await, [both.clone(), both.clone()]);

    let (_, tokens) = server.step_up(&id).await;
    assert_eq!(said(&replica, &tokens.access_token).await[1], both, "what is unset stays");
    let change = pb::ReauthenticateSessionRequest {
        scope: Some("admin".to_owned()),
        claims: Some(object([("plan", text("lead"))])),
        ..second_factor(&id)
    };
    let tokens = server.reauthenticate(change).await.expect("a step-up").tokens.expect("tokens");
    let changed = ("admin".to_owned(), Some(object([("plan", text("lead"))])));
    assert_eq!(said(&server, &tokens.access_token).await, [changed.clone(), changed]);
    let clear = pb::ReauthenticateSessionRequest {
        scope: Some(String::new()),
        claims: Some(Struct::default()),
        ..second_factor(&id)
    };
    let tokens = server.reauthenticate(clear).await.expect("a step-up").tokens.expect("tokens");
    let none = (String::new(), None);
    assert_eq!(said(&server, &tokens.access_token).await, [none.clone(), none]);
    assert_eq!(claims(&tokens.access_token).get("scope"), None);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_limit_is_refused_by_name_at_create_and_step_up() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    let sized = |bytes: usize| object([("k", text(&"x".repeat(bytes - r#"{"k":""}"#.len())))]);
    let nested = |levels: usize| {
        (1..levels).fold(object([]), |inner, _| object([("k", value(Kind::StructValue(inner)))]))
    };
    for good in [with(&"a".repeat(1024), Some(sized(2048))), with("", Some(nested(8)))] {
        server.try_create(good).await.expect("at the edge");
    }
    let mut bad = vec![
        with(&"a".repeat(1025), None),
        with("a  b", None),
        with("", Some(sized(2049))),
        with("", Some(nested(9))),
        with("", Some(object([("k", value(Kind::NumberValue(f64::NAN)))]))),
    ];
    bad.extend(RESERVED.map(|name| with("", Some(object([(name, text("x"))])))));
    for request in bad {
        let field = if request.scope.is_empty() { "claims" } else { "scope" };
        let refused = server.try_create(request.clone()).await.expect_err("a limit");
        assert_eq!(violations(&refused), [field], "{request:?}");
        let step = pb::ReauthenticateSessionRequest {
            scope: Some(request.scope),
            claims: request.claims,
            ..second_factor(&id)
        };
        let refused = server.reauthenticate(step).await.expect_err("a limit");
        assert_eq!(violations(&refused), [field]);
    }
    let all = [("sub", text("x")), ("iss", text("\0")), ("k", text(&"x".repeat(2048)))];
    let refused = server.try_create(with("a  b", Some(object(all)))).await.expect_err("limits");
    assert_eq!(violations(&refused), ["scope", "claims", "claims", "claims", "claims"]);
}
