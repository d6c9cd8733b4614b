//! Rules in enforce mode: a session ends or requires a re-authentication, in the commit of the alert.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::detect::{alerts, settled, watching};
use crate::harness::calls::{new_session, parts, refusal};
use crate::harness::policies::level;
use crate::harness::{TestServer, audit, wait};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0";
const STEP_UP_REQUIRED: i16 = 15;
const TERMINATED: i16 = 3;

fn rule(mode: pb::RuleMode, action: pb::RuleAction) -> Option<pb::PlainRule> {
    Some(pb::PlainRule { mode: mode.into(), action: action.into() })
}

async fn detect_with(detection: pb::DetectionPolicy) -> TestServer {
    let server = watching().await;
    server.update(pb::Policy { detection: Some(detection), ..level("") }).await;
    server
}

fn client(user_agent: &str, ip: &str) -> Option<pb::ClientContext> {
    let (user_agent, ip_address) = (user_agent.to_owned(), ip.to_owned());
    Some(pb::ClientContext { user_agent, ip_address, ..Default::default() })
}

/// A session of ada with Firefox that detection has read: its id, access token and refresh token.
async fn with_firefox(server: &TestServer) -> (String, String, String) {
    let request =
        pb::CreateSessionRequest { client: client(FIREFOX, "192.0.2.1"), ..new_session("ada") };
    let tokens = parts(&server.try_create(request).await.expect("a session"));
    settled(server).await;
    tokens
}

/// A session of ada with Firefox, refreshed with curl from another network: its id, and the new tokens.
async fn hijacked(server: &TestServer) -> (String, pb::TokenPair) {
    let (id, _, refresh_token) = with_firefox(server).await;
    let request =
        pb::RefreshSessionRequest { refresh_token, client: client("curl/8.5.0", "198.51.100.7") };
    let answer = server.sessions().refresh_session(request).await.expect("a refresh");
    settled(server).await;
    (id, answer.into_inner().tokens.expect("tokens"))
}

/// Inserts the activity of curl with a token of a session of ada, at this time, from another network.
async fn shown_elsewhere(server: &TestServer, id: &str, at: &str) {
    let seen = "INSERT INTO session_activities (tenant_id, user_id, occurred_at, activity_id, kind,
            principal, session_id, ip_address, user_agent)
        VALUES ('default', 'ada', $1::text::timestamptz, gen_random_uuid(), 26, 'test', $2::text::uuid,
            '203.0.113.9', 'curl/8')";
    server.db.connect().await.execute(seen, &[&at, &id]).await.expect("a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_raises_an_alert_although_it_cannot_be_ended() {
    let server = detect_with(pb::DetectionPolicy {
        session_hijack: rule(pb::RuleMode::Enforce, pb::RuleAction::Terminate),
        ..Default::default()
    })
    .await;
    let (id, ..) = with_firefox(&server).await;
    let damage = "UPDATE user_sessions SET device = '{\"name\": 7}'";
    server.db.connect().await.batch_execute(damage).await.expect("damage");
    let now = server.clock.now().to_rfc3339();
    shown_elsewhere(&server, &id, &now).await;
    settled(&server).await;
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!((alert.rule_id.as_str(), &alert.session_id), ("session_hijack", &id));
    assert_eq!(alert.action_taken(), pb::ActionTaken::None);
    assert_eq!(server.activities(TERMINATED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hijacked_session_ends_at_once_with_one_alert_that_says_so() {
    let server = detect_with(pb::DetectionPolicy {
        session_hijack: rule(pb::RuleMode::Enforce, pb::RuleAction::Unspecified),
        ..Default::default()
    })
    .await;
    let (id, tokens) = hijacked(&server).await;
    let judged = server.validate(&tokens.access_token).await;
    assert_eq!(judged.outcome(), pb::Outcome::Inactive);
    assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
    assert_eq!(refusal(server.refresh(&tokens.refresh_token).await), "SESSION_TERMINATED");
    let ended = server.get(&id).await.expect("a session");
    assert_eq!(ended.end_reason(), pb::EndReason::SuspiciousActivity);
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!((alert.rule_id.as_str(), &alert.session_id), ("session_hijack", &id));
    assert_eq!(alert.action_taken(), pb::ActionTaken::SessionTerminated);
    assert_eq!(server.activities(TERMINATED).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_up_is_demanded_once_and_not_of_who_has_done_it() {
    let server = detect_with(pb::DetectionPolicy {
        session_hijack: rule(pb::RuleMode::Enforce, pb::RuleAction::StepUp),
        ..Default::default()
    })
    .await;
    let mut watcher = server.watch("").await;
    let (id, tokens) = hijacked(&server).await;
    let outcome = async |token: &str| server.validate(token).await.outcome();
    assert_eq!(outcome(&tokens.access_token).await, pb::Outcome::StepUpRequired);
    let demanded = loop {
        let event = watcher.events(1).await.remove(0);
        if event.kind() == pb::SessionEventKind::StepUpRequired {
            break event;
        }
    };
    assert_eq!((&*demanded.session_id, &*demanded.principal), (&*id, "system"));
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!(alert.action_taken(), pb::ActionTaken::StepUpRequired);
    // Found again: the session already requires it.
    server.advance(Duration::seconds(1));
    let request = pb::RefreshSessionRequest {
        refresh_token: tokens.refresh_token,
        client: client(FIREFOX, "192.0.2.1"),
    };
    server.sessions().refresh_session(request).await.expect("a refresh");
    settled(&server).await;
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!(alert.occurrence_count, 2);
    assert_eq!(server.activities(STEP_UP_REQUIRED).await, 1);
    // The user has re-authenticated; activity from before that requires nothing more.
    let late = (server.clock.now() + Duration::seconds(1)).to_rfc3339();
    server.advance(Duration::seconds(2));
    let (_, tokens) = server.step_up(&id).await;
    shown_elsewhere(&server, &id, &late).await;
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await[0].occurrence_count, 3);
    assert_eq!(server.activities(STEP_UP_REQUIRED).await, 1);
    assert_eq!(outcome(&tokens.access_token).await, pb::Outcome::Active);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_access_token_ends_the_session_when_somebody_else_shows_it() {
    let server = detect_with(pb::DetectionPolicy {
        session_hijack: rule(pb::RuleMode::Enforce, pb::RuleAction::Terminate),
        ..Default::default()
    })
    .await;
    let (id, access_token, _) = with_firefox(&server).await;
    let shown = pb::ValidateSessionRequest {
        access_token: access_token.clone(),
        client: client("curl/8.5.0", "198.51.100.7"),
        ..Default::default()
    };
    server.sessions().validate_session(shown).await.expect("a judgement");
    wait::until(async || server.validate(&access_token).await.outcome() == pb::Outcome::Inactive)
        .await;
    let ended = server.get(&id).await.expect("a session");
    assert_eq!(ended.end_reason(), pb::EndReason::SuspiciousActivity);
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!(alert.rule_id, "session_hijack");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suppressed_or_about_no_session_is_not_acted_on() {
    let enforce = pb::RuleMode::Enforce;
    let server = detect_with(pb::DetectionPolicy {
        trusted_networks: vec!["198.51.100.0/24".to_owned()],
        session_hijack: rule(enforce, pb::RuleAction::Terminate),
        failed_logins: Some(pb::BurstRule {
            mode: enforce.into(),
            action: pb::RuleAction::Terminate.into(),
            count: Some(1),
            ..Default::default()
        }),
        ..Default::default()
    })
    .await;
    let (_, tokens) = hijacked(&server).await;
    let failed =
        "INSERT INTO session_activities (tenant_id, user_id, occurred_at, activity_id, kind,
            principal, success)
        VALUES ('default', 'ada', $1::text::timestamptz, gen_random_uuid(), 22, 'test', false)";
    let now = server.clock.now().to_rfc3339();
    server.db.connect().await.execute(failed, &[&now]).await.expect("a row");
    settled(&server).await;
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!(alert.rule_id, "failed_logins");
    assert_eq!(alert.action_taken(), pb::ActionTaken::None);
    let kept = "SELECT count(*) FROM security_alerts WHERE suppression = 3 AND action_taken = 1";
    assert_eq!(server.db.count(kept).await, 1);
    assert_eq!(server.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);
    assert_eq!(server.activities(TERMINATED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_end_each_session_once_while_its_user_ends_it_too() {
    let server = detect_with(pb::DetectionPolicy {
        session_hijack: rule(pb::RuleMode::Enforce, pb::RuleAction::Terminate),
        rapid_creation: Some(pb::BurstRule {
            mode: pb::RuleMode::Enforce.into(),
            action: pb::RuleAction::Terminate.into(),
            count: Some(1),
            ..Default::default()
        }),
        ..Default::default()
    })
    .await;
    let on = |settings: &mut sessiond::server::Settings| {
        settings.detection = sessiond::model::detection::DetectionSettings::default();
    };
    let (second, third) = (server.replica_with(on).await, server.replica_with(on).await);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..30 {
        let mut sessions = server.sessions();
        calls.spawn(async move {
            let created = sessions.create_session(new_session(&format!("user-{n}"))).await;
            let id = parts(&created.expect("a session").into_inner()).0;
            if n % 2 == 0 {
                let target = pb::terminate_session_request::Target::SessionId(id);
                let request =
                    pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
                sessions.terminate_session(request).await.expect("an end");
            }
        });
    }
    calls.join_all().await;
    settled(&server).await;
    assert_eq!(server.activities(TERMINATED).await, 30);
    assert_eq!(server.db.count("SELECT count(*) FROM user_sessions WHERE state = 1").await, 0);
    let alerts = "SELECT count(*) FROM security_alerts WHERE rule_id = 'rapid_creation'";
    assert_eq!(server.db.count(alerts).await, 30);
    // An alert claims the end of its session only if the session ended because of it.
    let honest =
        "SELECT count(*) FROM security_alerts a JOIN user_sessions s USING (tenant_id, user_id)
        WHERE (a.action_taken = 2) <> (s.end_reason = 7)";
    assert_eq!(server.db.count(honest).await, 0);
    audit::check(&server.db).await;
    second.stop().await;
    third.stop().await;
}
