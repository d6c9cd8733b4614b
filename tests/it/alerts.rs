//! The workflow of an alert: open, acknowledged, resolved; each step has its principal, time and note.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::grpc::pb::{ClientContext, CreateSessionRequest, RefreshSessionRequest};

use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::requests::stamp;
use crate::harness::{TestServer, start};

fn acknowledge(alert_id: &str, note: &str) -> pb::AcknowledgeAlertRequest {
    let (alert_id, note) = (alert_id.to_owned(), note.to_owned());
    pb::AcknowledgeAlertRequest { alert_id, note, ..Default::default() }
}

fn resolve(alert_id: &str, resolution: pb::Resolution, note: &str) -> pb::ResolveAlertRequest {
    let (alert_id, note) = (alert_id.to_owned(), note.to_owned());
    let resolution = resolution.into();
    pb::ResolveAlertRequest { alert_id, resolution, note, ..Default::default() }
}

/// The number of activities of acknowledging and of resolving.
async fn steps(server: &TestServer) -> (i64, i64) {
    (server.activities(5).await, server.activities(6).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_token_raises_one_open_alert_with_its_evidence() {
    let server = start().await;
    let client = |ip: &str, agent: &str| {
        let (ip_address, user_agent) = (ip.to_owned(), agent.to_owned());
        Some(ClientContext { ip_address, user_agent, ..Default::default() })
    };
    let request =
        CreateSessionRequest { client: client("192.0.2.1", "Mine"), ..new_session("ada") };
    let (id, _, first) = parts(&server.try_create(request).await.expect("a session"));
    let second = server.refresh(&first).await.expect("a successor").tokens.expect("tokens");
    server.advance(Duration::minutes(1));
    let rotated = server.clock.now();
    server.refresh(&second.refresh_token).await.expect("a successor");
    server.advance(Duration::minutes(1));
    let replay =
        RefreshSessionRequest { refresh_token: first, client: client("203.0.113.9", "Theirs") };
    for expected in ["REFRESH_TOKEN_REUSED", "SESSION_TERMINATED", "SESSION_TERMINATED"] {
        let refusal = server.sessions().refresh_session(replay.clone()).await;
        assert_eq!(reason(&refusal.expect_err("a refusal")), expected);
    }

    let listed = server.list_alerts(pb::ListAlertsRequest::default()).await.expect("a list").alerts;
    assert_eq!(listed.len(), 1);
    let alert = server.get_alert(&listed[0].alert_id).await.expect("the alert");
    assert_eq!(alert, listed[0]);
    assert_eq!((alert.user_id.as_str(), alert.session_id.as_str()), ("ada", id.as_str()));
    assert_eq!(alert.tenant_id, "default");
    assert_eq!(alert.category(), pb::Category::TokenTheft);
    assert_eq!(alert.severity(), pb::Severity::Critical);
    assert_eq!((alert.rule_id.as_str(), alert.rule_version), ("refresh_reuse", 1));
    assert_eq!(alert.state(), pb::AlertState::Open);
    assert_eq!(alert.action_taken(), pb::ActionTaken::SessionTerminated);
    assert_eq!(alert.occurrence_count, 1);
    let now = stamp(server.clock.now());
    assert_eq!((alert.first_seen_time, alert.last_seen_time), (now, now));
    assert_eq!((alert.acknowledged_time, alert.resolved_time), (None, None));
    assert_eq!(alert.notes, []);
    let device = server.get(&id).await.expect("a session").device.expect("a device");
    assert_eq!(alert.device_id, device.device_id);
    let evidence = pb::RefreshReuseEvidence {
        presented_generation: 1,
        current_generation: 3,
        rotated_time: stamp(rotated),
        presenter_ip_address: "203.0.113.9".to_owned(),
        presenter_user_agent: "Theirs".to_owned(),
        session_ip_address: "192.0.2.1".to_owned(),
        session_user_agent: "Mine".to_owned(),
    };
    let typed = pb::evidence::Typed::RefreshReuse(evidence);
    assert_eq!(alert.evidence.expect("evidence").typed, Some(typed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_acknowledged_and_then_resolved_with_notes_in_order() {
    let server = start().await;
    let open = server.steal_from("ada").await;
    server.advance(Duration::minutes(1));
    let taken = server.clock.now();
    let request = acknowledge(&open.alert_id, "looking\tinto\r\nit");
    let acknowledged = server.acknowledge(request).await.expect("an alert");
    assert_eq!(acknowledged.state(), pb::AlertState::Acknowledged);
    assert_eq!(acknowledged.acknowledged_by, "anonymous");
    assert_eq!(acknowledged.acknowledged_time, stamp(taken));
    assert_eq!((acknowledged.resolved_by.as_str(), acknowledged.resolved_time), ("", None));
    assert_ne!(acknowledged.etag, open.etag);
    assert_eq!(steps(&server).await, (1, 0));

    server.advance(Duration::minutes(1));
    let closed = server.clock.now();
    let request = resolve(&open.alert_id, pb::Resolution::TruePositive, "stolen");
    let resolved = server.resolve(request).await.expect("an alert");
    assert_eq!(resolved.state(), pb::AlertState::Resolved);
    assert_eq!(resolved.resolution(), pb::Resolution::TruePositive);
    assert_eq!(
        (resolved.resolved_by.as_str(), resolved.resolved_time),
        ("anonymous", stamp(closed))
    );
    assert_eq!(resolved.acknowledged_by, "anonymous");
    assert_eq!(resolved.acknowledged_time, stamp(taken));
    assert_ne!(resolved.etag, acknowledged.etag);
    let note = |text: &str, at| pb::AlertNote {
        note: text.to_owned(),
        principal: "anonymous".to_owned(),
        create_time: stamp(at),
    };
    let notes = [note("looking\tinto\r\nit", taken), note("stolen", closed)];
    assert_eq!(resolved.notes, notes);
    assert_eq!(steps(&server).await, (1, 1));

    assert_eq!(server.get_alert(&open.alert_id).await.expect("the alert"), resolved);
    let unchanged = (open.evidence, open.first_seen_time, open.last_seen_time, 1);
    let now = (resolved.evidence, resolved.first_seen_time, resolved.last_seen_time);
    assert_eq!((now.0, now.1, now.2, resolved.occurrence_count), unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_alert_is_resolved_without_being_acknowledged() {
    let server = start().await;
    for resolution in
        [pb::Resolution::TruePositive, pb::Resolution::FalsePositive, pb::Resolution::Benign]
    {
        let open = server.steal_from(resolution.as_str_name()).await;
        let request = resolve(&open.alert_id, resolution, "");
        let resolved = server.resolve(request).await.expect("an alert");
        assert_eq!(resolved.resolution(), resolution);
        assert_eq!(resolved.acknowledged_by, "");
        assert_eq!(resolved.acknowledged_time, None);
        assert_eq!(resolved.notes, []);
    }
    assert_eq!(steps(&server).await, (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_taken_already_changes_nothing_and_adds_no_note() {
    let server = start().await;
    let id = server.steal_from("ada").await.alert_id;
    let first = server.acknowledge(acknowledge(&id, "mine")).await.expect("an alert");
    server.advance(Duration::minutes(1));
    let again = server.acknowledge(acknowledge(&id, "no, mine")).await.expect("an alert");
    assert_eq!(again, first);

    let benign = pb::Resolution::Benign;
    let first = server.resolve(resolve(&id, benign, "done")).await.expect("an alert");
    server.advance(Duration::minutes(1));
    let again = server.resolve(resolve(&id, benign, "done again")).await.expect("an alert");
    assert_eq!(again, first);
    assert_eq!(steps(&server).await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolved_alert_is_neither_acknowledged_nor_resolved_otherwise() {
    let server = start().await;
    let id = server.steal_from("ada").await.alert_id;
    let request = resolve(&id, pb::Resolution::Benign, "done");
    let resolved = server.resolve(request).await.expect("an alert");
    let refusals = [
        server.acknowledge(acknowledge(&id, "")).await.expect_err("resolved"),
        server.resolve(resolve(&id, pb::Resolution::TruePositive, "")).await.expect_err("benign"),
        server.resolve(resolve(&id, pb::Resolution::FalsePositive, "")).await.expect_err("benign"),
    ];
    for refusal in refusals {
        assert_eq!(reason(&refusal), "ALERT_STATE_INVALID");
    }
    assert_eq!(server.get_alert(&id).await.expect("the alert"), resolved);
    assert_eq!(steps(&server).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_with_an_etag_is_taken_only_if_nothing_changed_since() {
    let server = start().await;
    let open = server.steal_from("ada").await;
    let with = |etag: &str| {
        let etag = etag.to_owned();
        pb::AcknowledgeAlertRequest { etag, ..acknowledge(&open.alert_id, "") }
    };
    let refusal = server.acknowledge(with("0")).await.expect_err("another etag");
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (tonic::Code::Aborted, MISMATCH));
    assert_eq!(steps(&server).await, (0, 0));
    let acknowledged = server.acknowledge(with(&open.etag)).await.expect("an alert");

    let request = resolve(&open.alert_id, pb::Resolution::Benign, "");
    let stale = pb::ResolveAlertRequest { etag: open.etag.clone(), ..request.clone() };
    let refusal = server.resolve(stale).await.expect_err("a stale etag");
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (tonic::Code::Aborted, MISMATCH));
    let fresh = pb::ResolveAlertRequest { etag: acknowledged.etag, ..request };
    server.resolve(fresh).await.expect("an alert");
    assert_eq!(steps(&server).await, (1, 1));
}

const MISMATCH: &str = "ETAG_MISMATCH";

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_steps_one_is_taken() {
    let server = start().await;
    let id = server.steal_from("ada").await.alert_id;
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..16 {
        let (mut client, request) = (server.alerts(), acknowledge(&id, &format!("note {i}")));
        calls.spawn(async move { client.acknowledge_alert(request).await });
    }
    for answer in calls.join_all().await {
        let alert = answer.expect("an alert").into_inner().alert.expect("an alert");
        assert_eq!((alert.state(), alert.notes.len()), (pb::AlertState::Acknowledged, 1));
    }
    assert_eq!(steps(&server).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_keeps_its_limits() {
    let server = start().await;
    let id = server.steal_from("ada").await.alert_id;
    let wrong = pb::ResolveAlertRequest {
        tenant_id: "a b".to_owned(),
        alert_id: "x".to_owned(),
        resolution: 4,
        note: "ü".repeat(1001),
        request_id: "x".to_owned(),
        etag: String::new(),
        suppress_for: None,
        terminate_sessions: false,
    };
    let mut broken = violations(&server.resolve(wrong).await.expect_err("a refusal"));
    broken.sort();
    assert_eq!(broken, ["alert_id", "note", "request_id", "resolution", "tenant_id"]);
    for number in [0, 4, -1] {
        let request = resolve(&id, pb::Resolution::Unspecified, "");
        let request = pb::ResolveAlertRequest { resolution: number, ..request };
        let refusal = server.resolve(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["resolution"], "{number}");
    }
    for note in ["\0", "\u{1b}[31m", "\u{7f}", "\u{85}"] {
        let refusal = server.acknowledge(acknowledge(&id, note)).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["note"], "{note:?}");
    }
    let longest = format!("{}\u{202e}\n", "ü".repeat(998));
    let alert = server.acknowledge(acknowledge(&id, &longest)).await.expect("an alert");
    assert_eq!(alert.notes[0].note, longest);
}
