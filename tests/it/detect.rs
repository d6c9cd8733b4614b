//! Detection from the activity to the alert: each activity once, one alert an incident.

use sessiond::grpc::pb::{alert as pb, session};
use sessiond::model::detection::DetectionSettings;

use crate::harness::calls::new_session;
use crate::harness::{TestServer, audit, start_with, wait};

const RAISED: i16 = 13;

async fn watching() -> TestServer {
    start_with(|settings| settings.detection = DetectionSettings::default()).await
}

/// Failed logins of users `user-1` to `user-{users}`, each `times`, a second apart, before now.
async fn fail_logins(server: &TestServer, users: i32, times: i32) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        SELECT 'default', 'user-' || u, $3::text::timestamptz - t * interval '1 second',
            gen_random_uuid(), 22, 'test', false
        FROM generate_series(1, $1::int) u, generate_series(1, $2::int) t";
    let now = server.clock.now().to_rfc3339();
    let client = server.db.connect().await;
    client.execute(sql, &[&users, &times, &now]).await.expect("rows");
}

async fn alerts(server: &TestServer, user: &str) -> Vec<pb::SecurityAlert> {
    let filter = pb::AlertFilter { user_id: user.to_owned(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    server.list_alerts(request).await.expect("a list").alerts
}

/// Waits until everything committed before has been looked at.
async fn settled(server: &TestServer) {
    let now: String = {
        let client = server.db.connect().await;
        let row = client.query_one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text", &[]);
        row.await.expect("a snapshot").get(0)
    };
    let sql = format!(
        "SELECT count(*) FROM feed_consumers WHERE consumer = 'detect'
        AND pg_snapshot_xmax(read_to::pg_snapshot) >= '{now}'::xid8"
    );
    wait::until(async || server.db.count(&sql).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_failed_logins_is_one_alert_with_its_evidence() {
    let server = watching().await;
    fail_logins(&server, 1, 9).await;
    settled(&server).await;
    assert_eq!(alerts(&server, "user-1").await, []);
    fail_logins(&server, 1, 3).await;
    settled(&server).await;
    let found = alerts(&server, "user-1").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].rule_id, "failed_logins");
    assert_eq!(found[0].state(), pb::AlertState::Open);
    assert!(!found[0].evidence.as_ref().expect("evidence").values.is_empty());
    // More of the same, then the same a day later.
    fail_logins(&server, 1, 10).await;
    settled(&server).await;
    let again = alerts(&server, "user-1").await;
    assert_eq!((again.len(), &again[0].alert_id), (1, &found[0].alert_id));
    server.advance(chrono::Duration::days(1));
    fail_logins(&server, 1, 10).await;
    settled(&server).await;
    assert_eq!(alerts(&server, "user-1").await.len(), 2, "another incident");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_raise_every_incident_once_also_when_one_is_cut_off() {
    let server = watching().await;
    let on = |settings: &mut sessiond::server::Settings| {
        settings.detection = DetectionSettings::default();
    };
    let second = server.replica_with(on).await;
    let third = server.replica_with(on).await;
    for _ in 0..3 {
        fail_logins(&server, 150, 4).await;
    }
    // In the middle of whatever it does.
    drop(third);
    settled(&server).await;
    let each = "SELECT count(*) FROM (SELECT user_id FROM security_alerts
        WHERE rule_id = 'failed_logins' GROUP BY user_id HAVING count(*) = 1) u";
    assert_eq!(server.db.count(each).await, 150);
    let changes = "SELECT sum(revision)::bigint FROM security_alerts";
    assert_eq!(server.activities(RAISED).await, server.db.count(changes).await);
    audit::check(&server.db).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_user_is_forgotten_by_detection_too() {
    let server = watching().await;
    fail_logins(&server, 2, 12).await;
    settled(&server).await;
    server.erase("user-1").await.expect("an erasure");
    settled(&server).await;
    let of = |user| {
        format!(
            "SELECT (SELECT count(*) FROM user_memories WHERE user_id = '{user}')
            + (SELECT count(*) FROM security_alerts WHERE user_id = '{user}')"
        )
    };
    assert_eq!(server.db.count(&of("user-1")).await, 0);
    assert_eq!(server.db.count(&of("user-2")).await, 2);
}

async fn create_in(server: &TestServer, country: &str, latitude: f64, longitude: f64) {
    let place = session::Location {
        country_code: country.to_owned(),
        latitude: Some(latitude),
        longitude: Some(longitude),
        ..Default::default()
    };
    let client = session::ClientContext { location: Some(place), ..Default::default() };
    let request = session::CreateSessionRequest { client: Some(client), ..new_session("ada") };
    server.try_create(request).await.expect("a session");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_tokyo_an_hour_after_berlin_is_told_of_unless_the_device_is_trusted() {
    let server = watching().await;
    create_in(&server, "DE", 52.52, 13.405).await;
    server.advance(chrono::Duration::hours(1));
    create_in(&server, "JP", 35.68, 139.69).await;
    settled(&server).await;
    let found = alerts(&server, "ada").await;
    let rules: Vec<&str> = found.iter().map(|alert| alert.rule_id.as_str()).collect();
    assert_eq!(rules, ["impossible_travel"], "the country is learnt in the first days");
    let evidence = &found[0].evidence.as_ref().expect("evidence").values;
    assert_eq!(evidence["from"], "52.5200,13.4050");
    assert_eq!(evidence["to"], "35.6800,139.6900");
    assert_eq!(evidence["threshold_kmh"], "900");
    assert_eq!(evidence["distance_km"].parse::<i32>().expect("a number") / 100, 88);

    let trust = "UPDATE devices SET trusted = true";
    server.db.connect().await.batch_execute(trust).await.expect("a change");
    server.advance(chrono::Duration::hours(2));
    create_in(&server, "DE", 52.52, 13.405).await;
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await, found, "suppressed");
    let kept = "SELECT count(*) FROM security_alerts WHERE rule_id = 'impossible_travel'
        AND suppression = 2";
    assert_eq!(server.db.count(kept).await, 1);
}
