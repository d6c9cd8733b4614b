//! RaiseAlert: findings of other services, with one alert for each incident.

use std::collections::BTreeMap;

use chrono::Duration;
use sessiond::grpc::pb;
use tokio::task::JoinSet;

use crate::harness::calls::{parts, reason, violations};
use crate::harness::requests::{NOBODY, stamp};
use crate::harness::{TestServer, audit, start};

/// A report about `user`.
pub fn report(user: &str) -> pb::RaiseAlertRequest {
    pb::RaiseAlertRequest {
        user_id: user.to_owned(),
        category: pb::Category::AccountTakeover.into(),
        severity: pb::Severity::High.into(),
        rule_id: "leaked_password".to_owned(),
        title: "The password is in a leak".to_owned(),
        dedup_key: "leak-7".to_owned(),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

async fn raised(server: &TestServer) -> i64 {
    server.activities(13).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_an_open_alert_with_what_was_stated_and_where_it_came_from() {
    let server = start().await;
    let session = server.create("ada").await.session.expect("a session");
    let request = pb::RaiseAlertRequest {
        user_id: String::new(),
        session_id: session.session_id.clone(),
        description: "Seen on\na list.".to_owned(),
        values: BTreeMap::from([("list".to_owned(), "7".to_owned())]),
        ..report("")
    };
    let alert = server.raise(request).await.expect("an alert");
    assert_eq!(alert, server.get_alert(&alert.alert_id).await.expect("the alert"));
    assert_eq!((alert.user_id.as_str(), &alert.session_id), ("ada", &session.session_id));
    assert_eq!(alert.device_id, session.device.expect("a device").device_id);
    assert_eq!((alert.rule_id.as_str(), alert.rule_version), ("leaked_password", 1));
    assert_eq!(
        (alert.category(), alert.severity()),
        (pb::Category::AccountTakeover, pb::Severity::High)
    );
    assert_eq!((alert.state(), alert.occurrence_count), (pb::AlertState::Open, 1));
    assert_eq!(alert.title, "The password is in a leak");
    assert_eq!(alert.description, "Seen on\na list.");
    assert_eq!(alert.evidence.as_ref().expect("evidence").values["list"], "7");
    assert_eq!(
        (alert.raised_by.as_str(), alert.suppression()),
        ("anonymous", pb::Suppression::Unspecified)
    );
    assert_eq!(alert.first_seen_time, stamp(server.clock.now()));
    assert_eq!(raised(&server).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_within_the_window_are_one_alert_and_later_ones_another() {
    let server = start().await;
    let short = || pb::RaiseAlertRequest { dedup_window: seconds(60), ..report("ada") };
    let first = server.raise(short()).await.expect("an alert");
    server.advance(Duration::seconds(60));
    let second = server.raise(short()).await.expect("an alert");
    assert_eq!((&second.alert_id, second.occurrence_count), (&first.alert_id, 2));
    assert_eq!(second.last_seen_time, stamp(server.clock.now()));
    assert_ne!(second.etag, first.etag);
    server.advance(Duration::seconds(61));
    let third = server.raise(short()).await.expect("an alert");
    assert_ne!(third.alert_id, first.alert_id);
    for other in [
        pb::RaiseAlertRequest { dedup_key: "leak-8".to_owned(), ..short() },
        pb::RaiseAlertRequest { rule_id: "breach".to_owned(), ..short() },
        pb::RaiseAlertRequest { user_id: "bob".to_owned(), ..short() },
        pb::RaiseAlertRequest { tenant_id: "acme".to_owned(), ..short() },
        pb::RaiseAlertRequest { user_id: String::new(), ..short() },
    ] {
        assert_eq!(server.raise(other).await.expect("an alert").occurrence_count, 1);
    }
    assert_eq!(raised(&server).await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_at_the_same_time_are_counted_exactly_whether_of_a_user_or_of_nobody() {
    let server = start().await;
    let other = server.replica().await;
    for user in ["ada", ""] {
        let mut calls = JoinSet::new();
        for i in 0..16 {
            let mut client = if i % 2 == 0 { server.alerts() } else { other.alerts() };
            calls.spawn(async move { client.raise_alert(report(user)).await });
        }
        let answers = calls
            .join_all()
            .await
            .into_iter()
            .map(|answer| answer.expect("an answer").into_inner().alert.expect("an alert"));
        let mut counts: Vec<(String, u32)> =
            answers.map(|alert| (alert.alert_id, alert.occurrence_count)).collect();
        counts.sort();
        let first = counts[0].0.clone();
        assert_eq!(counts, (1..=16).map(|n| (first.clone(), n)).collect::<Vec<_>>());
    }
    assert_eq!(raised(&server).await, 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_report_counts_nothing_up_and_another_body_is_refused() {
    let server = start().await;
    let request_id = "0195a1c0-0000-7000-8000-000000000001".to_owned();
    let first = pb::RaiseAlertRequest { request_id: request_id.clone(), ..report("ada") };
    let alert = server.raise(first.clone()).await.expect("an alert");
    assert_eq!(server.raise(first.clone()).await.expect("the same"), alert);
    let other = pb::RaiseAlertRequest { title: "Another".to_owned(), ..first };
    assert_eq!(reason(&server.raise(other).await.expect_err("reused")), "REQUEST_ID_REUSED");
    assert_eq!(raised(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_session_or_one_of_somebody_else_is_refused_with_nothing_raised() {
    let server = start().await;
    let (id, _, _) = parts(&server.create("ada").await);
    let of = |user: &str, session: &str| pb::RaiseAlertRequest {
        session_id: session.to_owned(),
        ..report(user)
    };
    let refusal = server.raise(of("", NOBODY)).await.expect_err("unknown");
    assert_eq!(reason(&refusal), "SESSION_NOT_FOUND");
    assert_eq!(violations(&server.raise(of("bob", &id)).await.expect_err("ada's")), ["user_id"]);
    let foreign = pb::RaiseAlertRequest { tenant_id: "acme".to_owned(), ..of("", &id) };
    assert_eq!(reason(&server.raise(foreign).await.expect_err("foreign")), "SESSION_NOT_FOUND");
    assert_eq!(raised(&server).await, 0);
    server.terminate(&id).await.expect("ok");
    server.raise(of("ada", &id)).await.expect("an ended session has alerts too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_keeps_its_limits() {
    let server = start().await;
    let wrong = pb::RaiseAlertRequest {
        tenant_id: "a b".to_owned(),
        device_id: NOBODY.to_owned(),
        category: 12,
        severity: 0,
        rule_id: "With Space".to_owned(),
        title: "t".repeat(201),
        description: "ü".repeat(2001),
        values: (0..33).map(|n| (n.to_string(), String::new())).collect(),
        dedup_key: "k".repeat(201),
        dedup_window: seconds(59),
        request_id: "x".to_owned(),
        ..Default::default()
    };
    let mut broken = violations(&server.raise(wrong).await.expect_err("a refusal"));
    broken.sort();
    let all = [
        "category",
        "dedup_key",
        "dedup_window",
        "description",
        "device_id",
        "request_id",
        "rule_id",
        "severity",
        "tenant_id",
        "title",
        "values",
    ];
    assert_eq!(broken, all);
    for rule_id in ["", "refresh_reuse", "data_regression", "impossible_travel", &"r".repeat(65)] {
        let request = pb::RaiseAlertRequest { rule_id: rule_id.to_owned(), ..report("ada") };
        let refusal = server.raise(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["rule_id"], "{rule_id}");
    }
    for request in [
        pb::RaiseAlertRequest { dedup_window: seconds(30 * 86_400 + 1), ..report("ada") },
        pb::RaiseAlertRequest { dedup_key: String::new(), ..report("ada") },
        pb::RaiseAlertRequest { title: String::new(), ..report("ada") },
        pb::RaiseAlertRequest { user_id: "u".repeat(129), ..report("ada") },
    ] {
        let refusal = server.raise(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal).len(), 1, "{refusal:?}");
    }
    let longest = pb::RaiseAlertRequest {
        user_id: "u".repeat(128),
        rule_id: "r".repeat(64),
        title: "ü".repeat(200),
        description: "ü".repeat(2000),
        values: (0..32).map(|n| (n.to_string(), "v".repeat(100))).collect(),
        dedup_key: "ü".repeat(200),
        dedup_window: seconds(30 * 86_400),
        ..report("")
    };
    let alert = server.raise(longest).await.expect("an alert");
    assert_eq!(alert.evidence.expect("evidence").values.len(), 32);
    assert_eq!(raised(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_leaves_no_report_that_began_before_it() {
    let server = start().await;
    for round in 0..8 {
        server.create("ada").await;
        let mut calls = JoinSet::new();
        for i in 0..4 {
            let mut client = server.alerts();
            let dedup_key = format!("{round} {i}");
            let request = pb::RaiseAlertRequest { dedup_key, ..report("ada") };
            calls.spawn(async move { client.raise_alert(request).await });
        }
        let erased = server.erase("ada").await.expect("an erasure");
        assert!(erased.complete);
        let answered = calls.join_all().await;
        assert!(answered.iter().all(Result::is_ok), "{answered:?}");
        // All or nothing: each remaining alert was raised after the erasure, and has its row in the trail.
        let alerts = "SELECT count(*) FROM security_alerts WHERE user_id = 'ada'";
        let raised = "SELECT count(*) FROM session_activities WHERE user_id = 'ada' AND kind = 13";
        assert_eq!(server.db.count(alerts).await, server.db.count(raised).await);
        server.erase("ada").await.expect("an erasure");
        assert_eq!(server.db.count(alerts).await, 0);
    }
}
