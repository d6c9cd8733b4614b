//! The session in a validation: which of its fields are shown, by the caller and the state of the token.

use std::collections::BTreeSet;

use chrono::Duration;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::model::caller::scope::Scope;

use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, parts};
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, start_with, wait};

/// A session with all fields set, and its access token.
async fn full(server: &TestServer) -> (String, String) {
    let request = pb::CreateSessionRequest {
        client: Some(pb::ClientContext {
            ip_address: "192.0.2.1".to_owned(),
            user_agent: "curl/8.5".to_owned(),
            location: Some(pb::Location { country_code: "AT".to_owned(), ..Default::default() }),
            device: Some(pb::DeviceContext {
                display_name: "Pixel".to_owned(),
                ..Default::default()
            }),
        }),
        authentication: Some(pb::Authentication { acr: "aal1".to_owned(), ..Default::default() }),
        metadata: [("k".to_owned(), "secret".to_owned())].into(),
        scope: "openid".to_owned(),
        audiences: vec!["api".to_owned()],
        ..new_session("ada")
    };
    let admin = server.key("admin", &grant(Role::Admin, &["default"])).await.text;
    let created = server.sessions_as(&admin).create_session(request).await.expect("a session");
    let (id, access, _) = parts(&created.into_inner());
    (id, access)
}

/// The names of the fields that are set.
fn fields(session: &pb::Session) -> BTreeSet<&'static str> {
    let device = session.device.clone().unwrap_or_default();
    let all = [
        ("session_id", !session.session_id.is_empty()),
        ("tenant_id", !session.tenant_id.is_empty()),
        ("user_id", !session.user_id.is_empty()),
        ("client_id", !session.client_id.is_empty()),
        ("state", session.state != 0),
        ("device_id", !device.device_id.is_empty()),
        ("device_name", !device.display_name.is_empty()),
        ("ip_address", !session.ip_address.is_empty()),
        ("user_agent", !session.user_agent.is_empty()),
        ("location", session.location.is_some()),
        ("authentication", session.authentication.is_some()),
        ("create_time", session.create_time.is_some()),
        ("last_active_time", session.last_active_time.is_some()),
        ("idle_expire_time", session.idle_expire_time.is_some()),
        ("absolute_expire_time", session.absolute_expire_time.is_some()),
        ("end_time", session.end_time.is_some()),
        ("end_reason", session.end_reason != 0),
        ("terminated_by", !session.terminated_by.is_empty()),
        ("refresh_generation", session.refresh_generation != 0),
        ("metadata", !session.metadata.is_empty()),
        ("audiences", !session.audiences.is_empty()),
        ("etag", !session.etag.is_empty()),
        ("scope", !session.scope.is_empty()),
    ];
    all.into_iter().filter_map(|(name, set)| set.then_some(name)).collect()
}

const NEEDED: [&str; 10] = [
    "session_id",
    "tenant_id",
    "user_id",
    "client_id",
    "state",
    "device_id",
    "authentication",
    "idle_expire_time",
    "absolute_expire_time",
    "scope",
];

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> BTreeSet<&'a str> {
    base.iter().chain(more).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_sees_what_it_needs_and_who_may_read_sessions_all() {
    let server = start_with(authenticated).await;
    let (id, access) = full(&server).await;
    let gateway = server.key("edge", &grant(Role::Gateway, &["default"])).await.text;
    let mut both = grant(Role::Gateway, &["default"]);
    both.scopes.push(Scope::SessionRead);
    let reader = server.key("reader", &both).await.text;
    let judge = async |key: &str, token: &str, audience: &str| {
        let request = pb::ValidateSessionRequest {
            access_token: token.to_owned(),
            audience: audience.to_owned(),
            freshness: Some(pb::validate_session_request::Freshness::Strong(true)),
            ..Default::default()
        };
        let judged = server.sessions_as(key).validate_session(request).await.expect("a judgement");
        let judged = judged.into_inner();
        (judged.inactive_reason(), judged.session.expect("a session"))
    };
    let (why, seen) = judge(&gateway, &access, "api").await;
    assert_eq!((why, fields(&seen)), (pb::InactiveReason::Unspecified, with(&NEEDED, &[])));
    let all = judge(&reader, &access, "api").await.1;
    let hidden = ["device_name", "ip_address", "user_agent", "location", "create_time"];
    let more = ["last_active_time", "refresh_generation", "metadata", "audiences", "etag"];
    assert_eq!(fields(&all), with(&NEEDED, &[hidden, more].concat()));

    // For a token that is not valid for its audience every caller gets the fewest fields.
    for key in [&gateway, &reader] {
        let (why, seen) = judge(key, &access, "other").await;
        assert_eq!(why, pb::InactiveReason::WrongAudience);
        assert_eq!(fields(&seen), with(&["session_id", "state"], &[]));
    }
    let admin = server.key("second", &grant(Role::Admin, &["default"])).await.text;
    let done = server.sessions_as(&admin).reauthenticate_session(second_factor(&id)).await;
    let next = done.expect("a step up").into_inner().tokens.expect("tokens").access_token;
    let (why, seen) = judge(&gateway, &access, "api").await;
    assert_eq!(why, pb::InactiveReason::Superseded);
    assert_eq!(fields(&seen), with(&["session_id", "state"], &[]));
    server.advance(Duration::minutes(6));
    let (why, seen) = judge(&gateway, &next, "api").await;
    assert_eq!(why, pb::InactiveReason::TokenExpired);
    assert_eq!(fields(&seen), with(&["session_id", "state"], &[]));
    let end = pb::TerminateSessionRequest {
        target: Some(pb::terminate_session_request::Target::AccessToken(next.clone())),
        ..Default::default()
    };
    let ended = server.sessions_as(&gateway).terminate_session(end).await.expect("an end");
    let ended = ended.into_inner().session.expect("a session");
    assert_eq!(fields(&ended), with(&["session_id", "state", "end_reason"], &[]));
    let (why, seen) = judge(&gateway, &next, "api").await;
    assert_eq!(why, pb::InactiveReason::SessionTerminated);
    assert_eq!(fields(&seen), with(&["session_id", "state", "end_reason"], &[]));
    let all = judge(&reader, &next, "api").await.1;
    assert!(fields(&all).contains("ip_address"), "who may read sessions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_shows_a_gateway_what_it_needs_and_a_login_service_all() {
    let server = start_with(authenticated).await;
    let admin = server.key("admin", &grant(Role::Admin, &["default"])).await.text;
    for (role, sees_all) in [(Role::Gateway, false), (Role::Login, true)] {
        let created = server.sessions_as(&admin).create_session(new_session("ada")).await;
        let refresh_token = parts(&created.expect("a session").into_inner()).2;
        let key = server.key(role.name(), &grant(role, &["default"])).await.text;
        let request = pb::RefreshSessionRequest { refresh_token, ..Default::default() };
        let done = server.sessions_as(&key).refresh_session(request).await.expect("tokens");
        let session = done.into_inner().session.expect("a session");
        assert_eq!(fields(&session).contains("etag"), sees_all, "{role:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_noted_with_the_tenant_of_who_presented_it() {
    let server = start_with(authenticated).await;
    let (_, access) = full(&server).await;
    let acme = server.key("edge", &grant(Role::Gateway, &["acme"])).await.text;
    let forged = pb::ValidateSessionRequest {
        access_token: format!("{}AAAA", &access[..access.len() - 4]),
        client: Some(pb::ClientContext {
            ip_address: "198.51.100.7".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let judged = server.sessions_as(&acme).validate_session(forged).await.expect("a judgement");
    assert_eq!(judged.into_inner().inactive_reason(), pb::InactiveReason::SignatureInvalid);
    let of = async |tenant: &str| {
        let sql = format!(
            "SELECT count(*) FROM session_activities
            WHERE tenant_id = '{tenant}' AND error_code = 'SIGNATURE_INVALID'"
        );
        server.db.count(&sql).await
    };
    wait::until(async || of("acme").await == 1).await;
    assert_eq!(of("default").await, 0);
}
