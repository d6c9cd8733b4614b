//! A resource of another tenant gives exactly the answer of a missing one.

use futures_util::future::join_all;
use prost::Message;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use tonic::{Code, Status};

use super::well_formed::{About, NOTHING, of};
use super::{changes, methods};
use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, parts, reason};
use crate::harness::requests::NOBODY;
use crate::harness::scrape::scrape;
use crate::harness::{TestServer, start_with};

/// Resources in tenant `b`, and the key of a caller that is permitted only tenant `a`.
struct World {
    server: TestServer,
    of_a: String,
    /// The key of a caller with every permission.
    all: String,
    session: String,
    device: String,
    alert: String,
    access: String,
    refresh: String,
    /// Genuine tokens of `a` whose session is erased.
    gone_access: String,
    gone_refresh: String,
}

async fn world() -> World {
    let server = start_with(|settings| {
        authenticated(settings);
        settings.http_listen = Some("127.0.0.1:0".parse().expect("an address"));
    });
    let server = server.await;
    let all = server.key("all", &grant(Role::Admin, &["*"])).await.text;
    let of_a = server.key("of-a", &grant(Role::Admin, &["a"])).await.text;
    let (mut sessions, mut alerts) = (server.sessions_as(&all), server.alerts_as(&all));
    let mut create = async |tenant: &str| {
        let new = pb::CreateSessionRequest { tenant_id: tenant.to_owned(), ..new_session("ada") };
        sessions.create_session(new).await.expect("a session").into_inner()
    };
    let (gone, there) = (create("a").await, create("b").await);
    let erase = pb::EraseUserRequest {
        tenant_id: "a".to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    };
    sessions.erase_user(erase).await.expect("nobody left");
    let raise = pb::RaiseAlertRequest {
        tenant_id: "b".to_owned(),
        user_id: "ada".to_owned(),
        rule_id: "found_elsewhere".to_owned(),
        title: "Found elsewhere".to_owned(),
        dedup_key: "1".to_owned(),
        category: pb::Category::Other.into(),
        severity: pb::Severity::Low.into(),
        ..Default::default()
    };
    let raised = alerts.raise_alert(raise).await.expect("an alert").into_inner();
    let alert = raised.alert.expect("an alert").alert_id;
    let (_, gone_access, gone_refresh) = parts(&gone);
    let (session, access, refresh) = parts(&there);
    let device = there.session.and_then(|session| session.device).expect("a device").device_id;
    World { server, of_a, all, session, device, alert, access, refresh, gone_access, gone_refresh }
}

/// An answer or a refusal, with one id replaced by another of the same length.
fn without(answer: Result<Vec<u8>, Status>, id: &str) -> Result<Vec<u8>, (Code, String, Vec<u8>)> {
    let replaced = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        while let Some(at) = bytes.windows(id.len()).position(|part| part == id.as_bytes()) {
            bytes[at..at + id.len()].copy_from_slice(NOBODY.as_bytes());
        }
        bytes
    };
    let text = |status: &Status| status.message().replace(id, NOBODY);
    answer.map(|bytes| replaced(&bytes)).map_err(|s| (s.code(), text(&s), replaced(s.details())))
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_another_tenant_answer_exactly_as_absent_ones() {
    let world = world().await;
    let World { server, of_a, .. } = &world;
    let before = changes(server).await;
    let mut compared = 0;
    for method in methods() {
        for owner in ["", "ada"] {
            let absent = About { user: "ada", owner, ..NOTHING };
            for (id, foreign) in [
                (&world.session, About { session: &world.session, ..absent }),
                (&world.device, About { device: &world.device, ..absent }),
                (&world.alert, About { alert: &world.alert, ..absent }),
            ] {
                let (foreign, absent) = (of(&method, foreign), of(&method, absent));
                if foreign == absent {
                    continue;
                }
                let answers = [foreign, absent].map(async |body| {
                    let answer = server.call(&method, body, Some(of_a)).await;
                    let bare = |bytes: Vec<u8>| match method.ends_with("/TerminateSession") {
                        true => bare(&bytes),
                        false => bytes,
                    };
                    without(answer.map(bare), id)
                });
                let [foreign, absent] = join_all(answers).await.try_into().expect("two answers");
                assert_eq!(foreign, absent, "{method}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * 15, "methods with an id");
    assert_eq!(changes(server).await, before, "something was done");
    assert_eq!(outcome(&world).await, pb::Outcome::Active);
}

/// The answer to a termination without its watermark, which differs in each answer.
fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut answer = pb::TerminateSessionResponse::decode(bytes).expect("an answer");
    assert!(!std::mem::take(&mut answer.watermark).is_empty());
    answer.encode_to_vec()
}

/// The outcome for a caller with every permission.
async fn outcome(world: &World) -> pb::Outcome {
    let access_token = world.access.clone();
    let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
    let mut client = world.server.sessions_as(&world.all);
    client.validate_session(request).await.expect("a judgement").into_inner().outcome()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_tenant_are_those_of_unknown_sessions() {
    let world = world().await;
    let World { server, of_a, .. } = &world;
    let before = changes(server).await;
    // Cached or not, and from the database.
    outcome(&world).await;
    let freshness = [None, None, Some(pb::validate_session_request::Freshness::Strong(true))];
    for freshness in freshness {
        let mut answers = Vec::new();
        for token in [&world.access, &world.gone_access] {
            let request = pb::ValidateSessionRequest {
                access_token: token.clone(),
                freshness: freshness.clone(),
                ..Default::default()
            };
            let answer = server.sessions_as(of_a).validate_session(request).await;
            let mut answer = answer.expect("a judgement").into_inner();
            assert!(answer.checked_time.take().is_some());
            assert!(!std::mem::take(&mut answer.watermark).is_empty());
            answers.push(answer);
        }
        assert_eq!(answers[0].inactive_reason(), pb::InactiveReason::SessionUnknown);
        assert_eq!(answers[0], answers[1]);
    }
    let mut refusals = Vec::new();
    for token in [&world.refresh, &world.gone_refresh] {
        let request = pb::RefreshSessionRequest { refresh_token: token.clone(), client: None };
        let refused =
            server.sessions_as(of_a).refresh_session(request).await.expect_err("a refusal");
        refusals.push((refused.code(), refused.message().to_owned(), reason(&refused)));
    }
    assert_eq!(refusals[0].2, "REFRESH_TOKEN_INVALID");
    assert_eq!(refusals[0], refusals[1]);
    use pb::terminate_session_request::Target::{AccessToken, RefreshToken};
    for target in [
        AccessToken(world.access.clone()),
        RefreshToken(world.refresh.clone()),
        AccessToken(world.gone_access.clone()),
        RefreshToken(world.gone_refresh.clone()),
    ] {
        let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
        let done = server.sessions_as(of_a).terminate_session(request).await.expect("an answer");
        assert_eq!(done.into_inner().session, None);
    }
    assert_eq!(changes(server).await, before, "something was done");
    assert_eq!(outcome(&world).await, pb::Outcome::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_tenant_takes_the_way_of_one_whose_session_is_unknown() {
    let world = world().await;
    let World { server, of_a, .. } = &world;
    // A call of its own tenant fills the cache.
    assert_eq!(outcome(&world).await, pb::Outcome::Active);
    let counts = async || {
        let series = scrape(server).await;
        let of_memory =
            |name: &str| name.starts_with("sessiond_session_cache_") && name.contains("s_total");
        series.into_iter().filter(|(name, _)| of_memory(name)).collect::<Vec<_>>()
    };
    let mut spent = Vec::new();
    for access_token in [world.access.clone(), world.gone_access.clone()] {
        let before = counts().await;
        let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
        server.sessions_as(of_a).validate_session(request).await.expect("a judgement");
        let after = counts().await;
        let less = |((name, now), (_, was)): ((String, f64), (String, f64))| (name, now - was);
        spent.push(after.into_iter().zip(before).map(less).collect::<Vec<_>>());
    }
    let cold = |(name, count): &(String, f64)| name.contains("cold") && *count == 1.0;
    assert!(spent[0].iter().any(cold), "the database was asked: {:?}", spent[0]);
    assert_eq!(spent[0], spent[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_ids_page_tokens_and_cursors_of_another_tenant_are_none() {
    let world = world().await;
    let World { server, of_a, .. } = &world;
    let of_b = server.key("of-b", &grant(Role::Admin, &["b"])).await.text;
    let request_id = NOBODY.to_owned();
    // A token of `b` with a request id: stored for `a`, and not found in `b`.
    let target = pb::terminate_session_request::Target::AccessToken(world.access.clone());
    let request = pb::TerminateSessionRequest {
        target: Some(target),
        request_id: request_id.clone(),
        ..Default::default()
    };
    let done = server.sessions_as(of_a).terminate_session(request).await.expect("an answer");
    assert_eq!(done.into_inner().session, None);
    let remembered = "SELECT count(*) FROM requests WHERE tenant_id = 'b'";
    assert_eq!(server.db.count(remembered).await, 0);
    let new = pb::CreateSessionRequest { request_id, ..new_session("bob") };
    server.sessions_as(&of_b).create_session(new).await.expect("it is free in b");
    let request = pb::ListSessionsRequest { page_size: 1, ..Default::default() };
    let page = server.sessions_as(&of_b).list_sessions(request).await.expect("a page");
    let page_token = page.into_inner().next_page_token;
    assert!(!page_token.is_empty());
    let request = pb::ListSessionsRequest { page_token, ..Default::default() };
    let refused = server.sessions_as(of_a).list_sessions(request).await.expect_err("a refusal");
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    let request = pb::WatchSessionsRequest::default();
    let watch = server.sessions_as(&of_b).watch_sessions(request).await.expect("a watch");
    let first = watch.into_inner().message().await.expect("a heartbeat").expect("a message");
    let request = pb::WatchSessionsRequest { cursor: first.cursor, ..Default::default() };
    let refused = server.sessions_as(of_a).watch_sessions(request).await.expect_err("a refusal");
    assert_eq!(reason(&refused), "CURSOR_INVALID");
}
