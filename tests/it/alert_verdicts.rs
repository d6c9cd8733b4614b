//! The effects of a verdict: sessions end, findings are suppressed, and a reopened alert undoes that.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::alert_raise::report;
use crate::harness::calls::{parts, reason, violations};
use crate::harness::requests::stamp;
use crate::harness::{TestServer, audit, start};

fn resolve(alert_id: &str, resolution: pb::Resolution) -> pb::ResolveAlertRequest {
    let resolution = resolution.into();
    pb::ResolveAlertRequest { alert_id: alert_id.to_owned(), resolution, ..Default::default() }
}

fn reopen(alert_id: &str) -> pb::ReopenAlertRequest {
    pb::ReopenAlertRequest { alert_id: alert_id.to_owned(), ..Default::default() }
}

fn days(days: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 })
}

async fn suppressed(server: &TestServer) -> Vec<pb::SecurityAlert> {
    let filter =
        pb::AlertFilter { suppressed: pb::SuppressedFilter::Only.into(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    server.list_alerts(request).await.expect("a list").alerts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_true_positive_ends_the_users_sessions_in_the_same_call() {
    let server = start().await;
    server.create_many("ada", 1200).await;
    let (_, token, _) = parts(&server.create("ada").await);
    let (bystander, _, _) = parts(&server.create("bob").await);
    let alert = server.raise(report("ada")).await.expect("an alert");
    let request = pb::ResolveAlertRequest {
        terminate_sessions: true,
        request_id: "0195a1c0-0000-7000-8000-000000000001".to_owned(),
        ..resolve(&alert.alert_id, pb::Resolution::TruePositive)
    };
    let answer = server.alerts().resolve_alert(request.clone()).await.expect("ok").into_inner();
    assert_eq!((answer.terminated_count, answer.complete), (1201, true));
    let resolved = answer.alert.expect("the alert");
    assert_eq!(resolved.state(), pb::AlertState::Resolved);
    let validated = server.validate(&token).await;
    assert_eq!(validated.inactive_reason(), pb::InactiveReason::SessionTerminated);
    let ended = validated.session.expect("the session");
    assert_eq!(ended.end_reason(), pb::EndReason::SuspiciousActivity);
    assert_eq!(ended.end_note, format!("alert {}", alert.alert_id));
    let bob = server.get(&bystander).await.expect("a session");
    assert_eq!(bob.state(), pb::SessionState::Active);
    // A retry does not end the sessions that began since.
    server.advance(Duration::seconds(1));
    let (back, _, _) = parts(&server.create("ada").await);
    let again = server.alerts().resolve_alert(request).await.expect("ok").into_inner();
    assert_eq!((again.terminated_count, again.complete), (0, true));
    assert_eq!(again.alert, Some(resolved));
    let back = server.get(&back).await.expect("a session");
    assert_eq!(back.state(), pb::SessionState::Active);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_ends_what_was_left_over_also_after_a_clock_was_set_back() {
    let server = start().await;
    let (left, ..) = parts(&server.create("ada").await);
    let alert = server.raise(report("ada")).await.expect("an alert");
    let request = pb::ResolveAlertRequest {
        terminate_sessions: true,
        request_id: "0195a1c0-0000-7000-8000-000000000001".to_owned(),
        ..resolve(&alert.alert_id, pb::Resolution::TruePositive)
    };
    server.advance(-Duration::hours(1));
    let holder = server.db.hold("SELECT 1 FROM user_sessions FOR UPDATE").await;
    let cut = server.alerts().resolve_alert(request.clone()).await.expect("ok").into_inner();
    assert_eq!((cut.terminated_count, cut.complete), (0, false), "it is held");
    drop(holder);
    server.advance(Duration::hours(1) + Duration::seconds(1));
    let (back, ..) = parts(&server.create("ada").await);
    let done = server.alerts().resolve_alert(request).await.expect("ok").into_inner();
    assert_eq!((done.terminated_count, done.complete), (1, true));
    for (id, state) in [(left, pb::SessionState::Terminated), (back, pb::SessionState::Active)] {
        assert_eq!(server.get(&id).await.expect("a session").state(), state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_after_an_alert_was_resolved_survives_every_later_call() {
    let server = start().await;
    let (before, ..) = parts(&server.create("ada").await);
    let alert = server.raise(report("ada")).await.expect("an alert");
    let step = resolve(&alert.alert_id, pb::Resolution::TruePositive);
    server.resolve(step.clone()).await.expect("resolved, and nobody logged out");
    server.advance(Duration::seconds(1));
    let (back, ..) = parts(&server.create("ada").await);
    let ending = pb::ResolveAlertRequest {
        terminate_sessions: true,
        request_id: "0195a1c0-0000-7000-8000-000000000001".to_owned(),
        ..step
    };
    for count in [1, 0] {
        let done = server.alerts().resolve_alert(ending.clone()).await.expect("ok").into_inner();
        assert_eq!((done.terminated_count, done.complete), (count, true));
    }
    for (id, state) in [(before, pb::SessionState::Terminated), (back, pb::SessionState::Active)] {
        assert_eq!(server.get(&id).await.expect("a session").state(), state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_not_ended_for_an_alert_about_nobody_or_a_false_one() {
    let server = start().await;
    server.create("ada").await;
    let nobody = server.raise(report("")).await.expect("an alert");
    let ending = |request| pb::ResolveAlertRequest { terminate_sessions: true, ..request };
    let request = ending(resolve(&nobody.alert_id, pb::Resolution::TruePositive));
    let refusal = server.resolve(request).await.expect_err("a refusal");
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition);
    assert_eq!(reason(&refusal), "ALERT_WITHOUT_USER");
    let open = server.get_alert(&nobody.alert_id).await.expect("the alert");
    assert_eq!(open.state(), pb::AlertState::Open);
    let alert = server.raise(report("ada")).await.expect("an alert");
    for resolution in [pb::Resolution::FalsePositive, pb::Resolution::Benign] {
        let request = ending(resolve(&alert.alert_id, resolution));
        let refusal = server.resolve(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["terminate_sessions"]);
    }
    let live = "SELECT count(*) FROM user_sessions WHERE state = 1";
    assert_eq!(server.db.count(live).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_like_of_a_false_positive_is_kept_silently_for_the_stated_time() {
    let server = start().await;
    let first = server.raise(report("ada")).await.expect("an alert");
    let request = pb::ResolveAlertRequest {
        suppress_for: days(2),
        ..resolve(&first.alert_id, pb::Resolution::FalsePositive)
    };
    let resolved = server.resolve(request).await.expect("an alert");
    let until = server.clock.now() + Duration::days(2);
    assert_eq!(resolved.suppressed_until_time, stamp(until));
    let silent = server.raise(report("ada")).await.expect("an alert");
    assert_eq!(silent.suppression(), pb::Suppression::FalsePositive);
    assert_ne!(silent.alert_id, first.alert_id);
    let again = server.raise(report("ada")).await.expect("an alert");
    assert_eq!((again.alert_id, again.occurrence_count), (silent.alert_id.clone(), 2));
    // Alerts about other users, and other findings, are not suppressed.
    for other in
        [report("bob"), pb::RaiseAlertRequest { dedup_key: "leak-8".to_owned(), ..report("ada") }]
    {
        let raised = server.raise(other).await.expect("an alert");
        assert_eq!(raised.suppression(), pb::Suppression::Unspecified);
    }
    let ids = |alerts: Vec<pb::SecurityAlert>| {
        alerts.into_iter().map(|alert| alert.alert_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(suppressed(&server).await), std::slice::from_ref(&silent.alert_id));
    assert!(!ids(server.alerts_of("ada").await).contains(&silent.alert_id));
    server.advance(Duration::days(2) - Duration::microseconds(1));
    let last = server.raise(report("ada")).await.expect("an alert");
    assert_eq!(last.suppression(), pb::Suppression::FalsePositive);
    server.advance(Duration::microseconds(1));
    let raised = server.raise(report("ada")).await.expect("an alert");
    assert_eq!(raised.suppression(), pb::Suppression::Unspecified);
    assert!(ids(server.alerts_of("ada").await).contains(&raised.alert_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_positive_suppresses_for_thirty_days_by_default_and_never_if_disabled() {
    let server = start().await;
    let first = server.raise(report("ada")).await.expect("an alert");
    let request = resolve(&first.alert_id, pb::Resolution::FalsePositive);
    let resolved = server.resolve(request).await.expect("an alert");
    let until = server.clock.now() + Duration::days(30);
    assert_eq!(resolved.suppressed_until_time, stamp(until));
    let second = server.raise(report("bob")).await.expect("an alert");
    let request = resolve(&second.alert_id, pb::Resolution::FalsePositive);
    let request = pb::ResolveAlertRequest { suppress_for: days(0), ..request };
    let resolved = server.resolve(request).await.expect("an alert");
    assert_eq!(resolved.suppressed_until_time, None);
    let again = server.raise(report("bob")).await.expect("an alert");
    assert_eq!(again.suppression(), pb::Suppression::Unspecified);
    assert_ne!(again.alert_id, second.alert_id, "the first incident is closed");
    for (wrong, resolution) in [
        (days(366), pb::Resolution::FalsePositive),
        (Some(prost_types::Duration { seconds: 0, nanos: -1_000 }), pb::Resolution::FalsePositive),
        (days(1), pb::Resolution::Benign),
    ] {
        let request = resolve(&again.alert_id, resolution);
        let request = pb::ResolveAlertRequest { suppress_for: wrong, ..request };
        let refusal = server.resolve(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["suppress_for"]);
    }
    let request = resolve(&again.alert_id, pb::Resolution::FalsePositive);
    let request = pb::ResolveAlertRequest { suppress_for: days(365), ..request };
    server.resolve(request).await.expect("the longest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_alert_is_open_again_counts_on_and_silences_no_more() {
    let server = start().await;
    let first = server.raise(report("ada")).await.expect("an alert");
    let open = server.reopen(reopen(&first.alert_id)).await.expect("open already");
    assert_eq!(open, first);
    let request = resolve(&first.alert_id, pb::Resolution::FalsePositive);
    let resolved = server.resolve(request).await.expect("an alert");
    let request = pb::ReopenAlertRequest {
        note: "wrong".to_owned(),
        etag: resolved.etag.clone(),
        ..reopen(&first.alert_id)
    };
    let stale = pb::ReopenAlertRequest { etag: first.etag.clone(), ..request.clone() };
    assert_eq!(reason(&server.reopen(stale).await.expect_err("stale")), "ETAG_MISMATCH");
    let reopened = server.reopen(request).await.expect("an alert");
    assert_eq!(reopened.state(), pb::AlertState::Open);
    assert_eq!(reopened.resolution(), pb::Resolution::Unspecified);
    assert_eq!((reopened.resolved_by.as_str(), reopened.resolved_time), ("", None));
    assert_eq!(reopened.suppressed_until_time, None);
    assert_eq!(reopened.notes.len(), 1);
    assert_eq!(server.activities(14).await, 1);
    let again = server.raise(report("ada")).await.expect("an alert");
    assert_eq!((&again.alert_id, again.occurrence_count), (&first.alert_id, 2));
    assert_eq!(again.suppression(), pb::Suppression::Unspecified);
    let acknowledge =
        pb::AcknowledgeAlertRequest { alert_id: first.alert_id.clone(), ..Default::default() };
    server.acknowledge(acknowledge).await.expect("an alert");
    let refusal = server.reopen(reopen(&first.alert_id)).await.expect_err("acknowledged");
    assert_eq!(reason(&refusal), "ALERT_STATE_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_takes_a_hundred_notes_and_any_step_without_one() {
    let server = start().await;
    let alert = server.raise(report("ada")).await.expect("an alert").alert_id;
    // The longest note in bytes.
    let note = |n: usize| format!("{n:04}{}", "\u{10348}".repeat(996));
    let step = async |n: usize, note: String| match n % 2 {
        0 => {
            let benign = resolve(&alert, pb::Resolution::Benign);
            server.resolve(pb::ResolveAlertRequest { note, ..benign }).await
        }
        _ => server.reopen(pb::ReopenAlertRequest { note, ..reopen(&alert) }).await,
    };
    for n in 0..100 {
        step(n, note(n)).await.expect("there is room");
    }
    let refusal = step(100, note(100)).await.expect_err("a refusal");
    assert_eq!(
        (refusal.code(), &*reason(&refusal)),
        (tonic::Code::FailedPrecondition, "ALERT_NOTES_FULL")
    );
    let full = server.get_alert(&alert).await.expect("the alert");
    assert_eq!((full.notes.len(), full.state()), (100, pb::AlertState::Open));
    let stays = step(101, note(101)).await.expect("it is open already, so nothing is noted");
    assert_eq!(stays, full);
    for n in 100..103 {
        assert_eq!(step(n, String::new()).await.expect("a step").notes, full.notes);
    }
    let listed = server.list_alerts(pb::ListAlertsRequest::default()).await.expect("a list");
    assert_eq!(listed.alerts.len(), 1);
    // Notes beyond the limit, which an earlier release allowed, are cut when read.
    let more = "UPDATE security_alerts SET notes = (SELECT jsonb_agg(n ORDER BY i, at)
        FROM generate_series(1, 11) i, jsonb_array_elements(notes) WITH ORDINALITY AS o (n, at))";
    server.db.connect().await.batch_execute(more).await.expect("more notes");
    let cut = server.get_alert(&alert).await.expect("the alert");
    assert_eq!(cut.notes, full.notes, "the latest hundred");
    server.list_alerts(pb::ListAlertsRequest::default()).await.expect("a list");
    step(103, String::new()).await.expect("a step");
    audit::check(&server.db).await;
}
