//! WatchAlerts: an event for each alert and each of its changes, as they are committed.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::alert_raise::report;
use crate::harness::calls::{parts, reason, refusal, successor, violations};
use crate::harness::{TestServer, start};

type Kind = pb::AlertEventKind;

async fn watch(server: &TestServer, filter: pb::AlertFilter) -> Alerts {
    let request = pb::WatchAlertsRequest { filter: Some(filter), ..Default::default() };
    server.watch_alerts(request).await.expect("a watch")
}

type Alerts = crate::harness::watch::Watcher<pb::WatchAlertsResponse>;

/// Replays the refresh token of a new session of `user`: the session ends, with an alert.
async fn steal(server: &TestServer, user: &str) -> String {
    let (id, _, first) = parts(&server.create(user).await);
    let second = successor(server.refresh(&first).await).refresh_token;
    successor(server.refresh(&second).await);
    assert_eq!(refusal(server.refresh(&first).await), "REFRESH_TOKEN_REUSED");
    id
}

async fn acknowledge(server: &TestServer, alert_id: &str) {
    let alert_id = alert_id.to_owned();
    let request = pb::AcknowledgeAlertRequest { alert_id, ..Default::default() };
    server.acknowledge(request).await.expect("ok");
}

async fn resolve(server: &TestServer, alert_id: &str) {
    let request = pb::ResolveAlertRequest {
        alert_id: alert_id.to_owned(),
        resolution: pb::Resolution::TruePositive.into(),
        ..Default::default()
    };
    server.alerts().resolve_alert(request).await.expect("ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_an_alert_is_streamed_as_it_happens() {
    let server = start().await;
    let mut watcher = watch(&server, pb::AlertFilter::default()).await;
    let session = steal(&server, "ada").await;
    let raised = watcher.event().await.expect("an event");
    assert_eq!(raised.kind(), Kind::Raised);
    let alert = raised.alert.expect("an alert");
    assert_eq!(
        (alert.session_id.as_str(), alert.rule_id.as_str()),
        (session.as_str(), "refresh_reuse")
    );
    assert_eq!(Some(alert.clone()), server.get_alert(&alert.alert_id).await.ok());
    assert_eq!((raised.principal.as_str(), raised.occur_time), ("system", alert.first_seen_time));
    server.advance(Duration::minutes(1));
    let note = pb::AddAlertNoteRequest {
        alert_id: alert.alert_id.clone(),
        note: "looking".to_owned(),
        ..Default::default()
    };
    server.alerts().add_alert_note(note).await.expect("ok");
    assert_eq!(watcher.event().await.expect("an event").kind(), Kind::Noted);
    acknowledge(&server, &alert.alert_id).await;
    let taken = watcher.event().await.expect("an event");
    assert_eq!((taken.kind(), taken.principal.as_str()), (Kind::Acknowledged, "anonymous"));
    assert_eq!(taken.alert.expect("an alert").state(), pb::AlertState::Acknowledged);
    let taken = watcher.cursor.clone();
    resolve(&server, &alert.alert_id).await;
    let closed = watcher.event().await.expect("an event");
    assert_eq!(closed.kind(), Kind::Resolved);
    let closed = closed.alert.expect("an alert");
    assert_eq!(closed.state(), pb::AlertState::Resolved);
    assert_eq!(closed.occurrence_count, 1);
    // The rows that a repetition and a reopening write.
    let again = "UPDATE security_alerts SET occurrence_count = 2, revision = revision + 1;
        INSERT INTO session_activities
            (tenant_id, user_id, occurred_at, activity_id, alert_id, kind, principal)
        SELECT tenant_id, user_id, first_seen_at + make_interval(hours => kind), gen_random_uuid(),
            alert_id, kind, 'test'
        FROM security_alerts, unnest(ARRAY[13, 14]) kind";
    server.db.connect().await.batch_execute(again).await.expect("rows");
    let mut events = watcher.events(2).await;
    assert_eq!(
        events.iter().map(pb::AlertEvent::kind).collect::<Vec<_>>(),
        [Kind::Repeated, Kind::Reopened]
    );
    assert_eq!(events.remove(0).alert.expect("an alert").occurrence_count, 2);
    // A resumed watch returns the alert in its current state.
    let request = pb::WatchAlertsRequest {
        filter: Some(pb::AlertFilter::default()),
        cursor: taken,
        ..Default::default()
    };
    let resumed = server.watch_alerts(request).await.expect("a watch").events(3).await;
    let kinds: Vec<Kind> = resumed.iter().map(pb::AlertEvent::kind).collect();
    assert_eq!(kinds, [Kind::Resolved, Kind::Repeated, Kind::Reopened]);
    assert_eq!(resumed[0].alert.as_ref().expect("an alert").occurrence_count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_of_the_alerts_that_a_list_with_its_filter_shows() {
    let server = start().await;
    let bob = pb::AlertFilter { user_id: "bob".to_owned(), ..Default::default() };
    let filters = [
        bob.clone(),
        pb::AlertFilter { categories: vec![pb::Category::NewDevice.into()], ..Default::default() },
        pb::AlertFilter { minimum_severity: pb::Severity::Critical.into(), ..Default::default() },
        pb::AlertFilter { states: vec![pb::AlertState::Acknowledged.into()], ..Default::default() },
        pb::AlertFilter { rule_id: "new_country".to_owned(), ..Default::default() },
        pb::AlertFilter::default(),
    ];
    let mut watchers = Vec::new();
    for filter in &filters {
        watchers.push(watch(&server, filter.clone()).await);
    }
    steal(&server, "ada").await;
    let session = steal(&server, "bob").await;
    let [alert] = &server
        .list_alerts(pb::ListAlertsRequest { filter: Some(bob), ..Default::default() })
        .await
        .expect("a list")
        .alerts[..]
    else {
        panic!("not one alert")
    };
    // Both alerts are received before this one changes.
    let all = watchers.last_mut().expect("one").events(2).await;
    assert_eq!(all.iter().filter(|e| e.kind() == Kind::Raised).count(), 2);
    acknowledge(&server, &alert.alert_id).await;
    let mut events = Vec::new();
    for (watcher, count) in watchers.iter_mut().zip([2, 0, 3, 1, 0, 1]) {
        events.push(watcher.events(count).await);
        watcher.assert_quiet().await;
    }
    let is_bobs = |e: &pb::AlertEvent| e.alert.as_ref().is_some_and(|a| a.session_id == session);
    assert!(events[0].iter().chain(&events[3]).all(is_bobs));
    assert_eq!(events[3][0].kind(), Kind::Acknowledged);
    // A suppressed alert makes no event.
    let suppressed = "UPDATE security_alerts SET suppression = 2;
        UPDATE session_activities SET xid = pg_current_xact_id() WHERE alert_id IS NOT NULL";
    server.db.connect().await.batch_execute(suppressed).await.expect("a change");
    for watcher in &mut watchers {
        watcher.assert_quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_watch_has_no_alerts_of_an_erased_user() {
    let server = start().await;
    let cursor = watch(&server, pb::AlertFilter::default()).await.cursor;
    steal(&server, "ada").await;
    steal(&server, "bob").await;
    server.erase("ada").await.expect("an erasure");
    let request = pb::WatchAlertsRequest {
        filter: Some(pb::AlertFilter::default()),
        cursor,
        ..Default::default()
    };
    let mut watcher = server.watch_alerts(request).await.expect("a watch");
    assert_eq!(watcher.events(1).await[0].alert.as_ref().expect("an alert").user_id, "bob");
    watcher.assert_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_alerts_is_refused_with_all_that_is_wrong() {
    let server = start().await;
    let filter = pb::AlertFilter {
        user_id: "u".repeat(129),
        session_id: "x".to_owned(),
        categories: vec![99],
        minimum_severity: 99,
        states: vec![99],
        rule_id: "r".repeat(65),
        ..Default::default()
    };
    let request = pb::WatchAlertsRequest {
        tenant_id: "a b".to_owned(),
        filter: Some(filter),
        cursor: "A".repeat(20_481),
        heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
    };
    let status = server.watch_alerts(request).await.err().expect("refused");
    let fields = [
        "tenant_id",
        "filter.user_id",
        "filter.session_id",
        "filter.categories[0]",
        "filter.minimum_severity",
        "filter.states[0]",
        "filter.rule_id",
        "cursor",
        "heartbeat_interval",
    ];
    assert_eq!(violations(&status), fields);
    let cursor = watch(&server, pb::AlertFilter::default()).await.cursor;
    let user_id = "ada".to_owned();
    let foreign = pb::WatchAlertsRequest {
        filter: Some(pb::AlertFilter { user_id, ..Default::default() }),
        cursor,
        ..Default::default()
    };
    let status = server.watch_alerts(foreign).await.err().expect("refused");
    assert_eq!(reason(&status), "CURSOR_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_all_tenants_tells_of_each_and_its_cursor_is_of_no_single_one() {
    let server = start().await;
    let of = |tenant: &str, cursor: &str| pb::WatchAlertsRequest {
        tenant_id: tenant.to_owned(),
        cursor: cursor.to_owned(),
        ..Default::default()
    };
    let mut all = server.watch_alerts(of("*", "")).await.expect("a watch");
    for tenant in ["acme", "default"] {
        let raised = pb::RaiseAlertRequest { tenant_id: tenant.to_owned(), ..report("ada") };
        server.raise(raised).await.expect("an alert");
        let alert = all.event().await.expect("an event").alert.expect("an alert");
        assert_eq!(alert.tenant_id, tenant);
    }
    let cursor = all.cursor.clone();
    server.watch_alerts(of("*", &cursor)).await.expect("a watch");
    let refused = server.watch_alerts(of("acme", &cursor)).await.err().expect("refused");
    assert_eq!(reason(&refused), "CURSOR_INVALID");
}
