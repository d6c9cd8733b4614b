//! The limit strategy ASK: the conflict it reports, and how the user's choice settles it.

use std::process::Command;

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::model::conflict::LimitScope;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;

use crate::harness::calls::{assert_fits, metadata, new_session, parts, reason};
use crate::harness::conflicts::{SCOPES, conflict, limit, settling, start_asking};
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, audit, start_on, start_with};
use crate::readme::grpcurl;

/// Creates sessions of ada, a second apart; returns their ids.
async fn some(server: &TestServer, count: usize) -> Vec<String> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(parts(&server.create("ada").await).0);
        server.advance(Duration::seconds(1));
    }
    made
}

async fn ask(server: &TestServer) -> pb::SessionConflict {
    conflict(server.try_create(new_session("ada")).await)
}

async fn live(server: &TestServer) -> Vec<String> {
    let live = server.list("ada").await.into_iter();
    let live = live.filter(|session| session.state() == pb::SessionState::Active);
    live.map(|session| session.session_id).rev().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_tells_the_sessions_least_recently_used_first_and_changes_nothing() {
    let server = start_asking(3).await;
    let location = pb::Location { country_code: "DE".to_owned(), ..Default::default() };
    let device = pb::DeviceContext {
        display_name: "phone".to_owned(),
        platform: "ios".to_owned(),
        r#type: pb::DeviceType::Mobile.into(),
        ..Default::default()
    };
    let client = pb::ClientContext {
        ip_address: "192.0.2.7".to_owned(),
        user_agent: "curl/8.5.0".to_owned(),
        location: Some(location),
        device: Some(device),
    };
    let request = pb::CreateSessionRequest { client: Some(client), ..new_session("ada") };
    let first = server.try_create(request).await.expect("a session");
    server.advance(Duration::seconds(1));
    let others = some(&server, 2).await;
    server.validate(&parts(&first).1).await;
    server.advance(Duration::seconds(1));

    let status = server.try_create(new_session("ada")).await.expect_err("a conflict");
    for (key, value) in [("scope", "user"), ("limit", "3"), ("active", "3"), ("must_end", "1")] {
        assert_eq!(metadata(&status, key).as_deref(), Some(value), "{key}");
    }
    assert!(status.message().contains("no failed login"), "{status:?}");
    let conflict = conflict(Err::<(), _>(status));
    let listed: Vec<&str> = conflict.sessions.iter().map(|s| s.session_id.as_str()).collect();
    assert_eq!(listed, [others[0].as_str(), &others[1], &parts(&first).0]);
    assert_eq!(conflict.must_end_count, 1);
    assert!(conflict.conflict_token.len() <= 64);
    let (shown, whole) = (&conflict.sessions[2], server.get(&parts(&first).0).await.expect("it"));
    assert_eq!((&shown.client_id, &shown.create_time), (&whole.client_id, &whole.create_time));
    assert_eq!(shown.last_active_time, whole.last_active_time);
    assert_eq!(shown.country_code, "DE");
    let (shown, mut device) = (shown.device.clone().expect("it"), whole.device.expect("it"));
    device.platform.clear();
    assert_eq!(shown, device, "but for the platform as stated");
    assert_eq!([&*shown.display_name, &*shown.os, &*shown.browser], ["phone", "ios", "curl 8"]);

    assert_eq!(server.activities(1).await, 3);
    assert_eq!(server.activities(3).await, 0);
    assert_eq!(server.db.count("SELECT count(*) FROM requests").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chosen_session_ends_in_one_step_with_the_create_at_any_replica() {
    let change = |settings: &mut Settings| limit(settings, LimitScope::User, 3, OnLimit::Ask);
    let server = start_asking(3).await;
    let replica = server.replica_with(change).await;
    let made = some(&server, 3).await;
    let token = ask(&server).await.conflict_token;
    let request = settling(new_session("ada"), &token, &[&made[1]]);
    let settled = replica.try_create(request).await.expect("a session");
    let [ended] = &settled.terminated_sessions[..] else { panic!("not one: {settled:?}") };
    assert_eq!((&ended.session_id, ended.end_reason()), (&made[1], pb::EndReason::Limit));
    assert_eq!(ended.terminated_by, "anonymous", "it was the caller's choice");
    assert_eq!(live(&server).await, [made[0].clone(), made[2].clone(), parts(&settled).0]);
    assert_eq!(server.activities(3).await, 1);
    let by = "SELECT count(*) FROM session_activities WHERE kind = 3 AND principal = 'anonymous'";
    assert_eq!(server.db.count(by).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_that_is_too_small_is_asked_again_and_ends_nothing() {
    let server = start_asking(5).await;
    let made = some(&server, 5).await;
    let (db, clock) = server.stop().await;
    let lowered = |settings: &mut Settings| limit(settings, LimitScope::User, 3, OnLimit::Ask);
    let server = start_on(db, clock, lowered).await;
    let first = ask(&server).await;
    assert_eq!(first.must_end_count, 3);

    let two = settling(new_session("ada"), &first.conflict_token, &[&made[0], &made[3]]);
    let second = conflict(server.try_create(two.clone()).await);
    assert_eq!((second.must_end_count, second.sessions.len()), (3, 5));
    assert_ne!(second.conflict_token, first.conflict_token);
    // A session named twice counts once.
    let twice = [&*made[0], &*made[3], &*made[3]];
    conflict(server.try_create(settling(two, &second.conflict_token, &twice)).await);
    assert_eq!(live(&server).await, made);

    // A refused call leaves the token valid.
    let three =
        settling(new_session("ada"), &first.conflict_token, &[&made[0], &made[3], &made[4]]);
    let settled = server.try_create(three).await.expect("a session");
    assert_eq!(settled.terminated_sessions.len(), 3);
    assert_eq!(live(&server).await, [made[1].clone(), made[2].clone(), parts(&settled).0]);
    assert_eq!(server.activities(3).await, 3);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_others_and_unknown_ones_are_left_alone() {
    let server = start_asking(1).await;
    let made = some(&server, 1).await;
    let (bobs, ..) = parts(&server.create("bob").await);
    let elsewhere = pb::CreateSessionRequest { tenant_id: "acme".to_owned(), ..new_session("ada") };
    let (foreign, ..) = parts(&server.try_create(elsewhere).await.expect("a session"));
    let token = ask(&server).await.conflict_token;
    for strange in [&bobs, &foreign, &NOBODY.to_owned()] {
        let request = settling(new_session("ada"), &token, &[strange]);
        conflict(server.try_create(request).await);
    }
    let request = settling(new_session("ada"), &token, &[&bobs, NOBODY, &made[0], &foreign]);
    let settled = server.try_create(request).await.expect("a session");
    assert_eq!(settled.terminated_sessions.len(), 1);
    let [bob] = &server.list("bob").await[..] else { panic!("not one session") };
    assert_eq!(bob.state(), pb::SessionState::Active);
    assert_eq!(server.activities(3).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_session_that_has_ended_meanwhile_is_room() {
    let server = start_asking(2).await;
    let made = some(&server, 2).await;
    let token = ask(&server).await.conflict_token;
    server.terminate(&made[0]).await.expect("ok");
    let request = settling(new_session("ada"), &token, &[&made[0]]);
    let settled = server.try_create(request).await.expect("a session");
    assert_eq!(settled.terminated_sessions, []);
    assert_eq!(live(&server).await, [made[1].clone(), parts(&settled).0]);
    let ended = server.get(&made[0]).await.expect("a session");
    assert_eq!(ended.end_reason(), pb::EndReason::Logout, "the first end stays");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_limits_refuse_or_end_sessions_as_before() {
    let server = start_with(|settings| {
        limit(settings, LimitScope::User, 3, OnLimit::Ask);
        limit(settings, LimitScope::Client, 2, OnLimit::Reject);
    })
    .await;
    let made = some(&server, 2).await;
    let tv = pb::CreateSessionRequest { client_id: "tv".to_owned(), ..new_session("ada") };
    let (tv, ..) = parts(&server.try_create(tv).await.expect("a session"));
    let token = ask(&server).await.conflict_token;
    let status = server.try_create(settling(new_session("ada"), &token, &[&tv])).await;
    let status = status.expect_err("the client's limit");
    assert_eq!(reason(&status), "SESSION_LIMIT_REACHED");
    assert_eq!(metadata(&status, "scope").as_deref(), Some("client"));
    assert_eq!(live(&server).await.len(), 3, "nothing ends");
    let settled = server.try_create(settling(new_session("ada"), &token, &[&made[0]])).await;
    assert_eq!(settled.expect("a session").terminated_sessions.len(), 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_client_or_device_type_asks_for_its_own_sessions() {
    for scope in SCOPES {
        let server = start_with(|settings| limit(settings, scope, 1, OnLimit::Ask)).await;
        let create = |client: &str, kind: pb::DeviceType| {
            let device = pb::DeviceContext { r#type: kind.into(), ..Default::default() };
            let context = pb::ClientContext { device: Some(device), ..Default::default() };
            let client_id = client.to_owned();
            pb::CreateSessionRequest { client_id, client: Some(context), ..new_session("ada") }
        };
        let one = create("app", pb::DeviceType::Mobile);
        let other = match scope {
            LimitScope::User => new_session("bob"),
            LimitScope::Client => create("tv", pb::DeviceType::Mobile),
            LimitScope::DeviceType => create("app", pb::DeviceType::Tv),
        };
        let (first, ..) = parts(&server.try_create(one.clone()).await.expect("a session"));
        server.try_create(other).await.expect("it does not count");
        let conflict = conflict(server.try_create(one.clone()).await);
        let listed: Vec<&str> = conflict.sessions.iter().map(|s| s.session_id.as_str()).collect();
        assert_eq!(listed, [first.as_str()], "{scope:?}");
        let request = settling(one, &conflict.conflict_token, &[&first]);
        server.try_create(request).await.expect("a session");
        assert_eq!(server.activities(3).await, 1);
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_fits_into_six_kibibytes_of_trailers() {
    let server = start_asking(25).await;
    some(&server, 25).await;
    assert_eq!(ask(&server).await.sessions.len(), 20, "small ones");

    let server = start_asking(25).await;
    let name = "語".repeat(128);
    let device = pb::DeviceContext { display_name: name.clone(), ..Default::default() };
    let client = pb::ClientContext { device: Some(device), ..Default::default() };
    let large =
        pb::CreateSessionRequest { client_id: name, client: Some(client), ..new_session("ada") };
    for _ in 0..25 {
        server.try_create(large.clone()).await.expect("a session");
    }
    let status = server.try_create(large).await.expect_err("a conflict");
    assert_fits(&status);
    let conflict = conflict(Err::<(), _>(status));
    assert!((4..20).contains(&conflict.sessions.len()), "{}", conflict.sessions.len());
    assert_eq!(conflict.must_end_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_shows_a_conflict_in_words() {
    let server = start_asking(1).await;
    let made = some(&server, 1).await;
    let addr = server.addr.to_string();
    let run = move || {
        let body = r#"{"user_id": "ada", "client_id": "web"}"#;
        let method = "sessiond.v1.SessionService/CreateSession";
        let mut shell = Command::new("env");
        shell.args(["grpcurl", "-plaintext", "-d", body, &addr, method]);
        shell.env("PATH", grpcurl::path()).output().expect("grpcurl runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    let shown = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{shown}");
    for part in
        ["FailedPrecondition", "SESSION_CONFLICT", "conflictToken", "mustEndCount", &made[0]]
    {
        assert!(shown.contains(part), "no {part} in\n{shown}");
    }
}
