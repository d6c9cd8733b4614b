//! Detection from activity to alert: each activity is read once, and each incident has one alert.

use sessiond::grpc::pb;
use sessiond::model::detection::DetectionSettings;

use crate::harness::calls::new_session;
use crate::harness::devices::{set_device, update};
use crate::harness::scrape::{scrape, with_port};
use crate::harness::{TestServer, audit, start_with, wait};

const RAISED: i16 = 13;

pub async fn watching() -> TestServer {
    start_with(|settings| settings.detection = DetectionSettings::default()).await
}

/// Reports failed logins of users `user-1` to `user-{users}`, each `times`, a second apart, before now.
pub async fn fail_logins(server: &TestServer, users: i32, times: i32) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        SELECT 'default', 'user-' || u, $3::text::timestamptz - t * interval '1 second',
            gen_random_uuid(), 22, 'test', false
        FROM generate_series(1, $1::int) u, generate_series(1, $2::int) t";
    let now = server.clock.now().to_rfc3339();
    let client = server.db.connect().await;
    client.execute(sql, &[&users, &times, &now]).await.expect("rows");
}

pub async fn alerts(server: &TestServer, user: &str) -> Vec<pb::SecurityAlert> {
    let filter = pb::AlertFilter { user_id: user.to_owned(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    server.list_alerts(request).await.expect("a list").alerts
}

/// Waits until detection has read everything committed before.
pub async fn settled(server: &TestServer) {
    let unread = "SELECT count(*) FROM session_activities a, feed_consumers c
        WHERE a.xid IS NOT NULL AND c.consumer = 'detect'
        AND NOT pg_visible_in_snapshot(a.xid, c.read_to::pg_snapshot)";
    wait::until(async || server.db.count(unread).await == 0).await;
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
    // Failed logins of the same user now, and again a day later.
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
    // Stops it at any point of its work.
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
    let place = pb::Location {
        country_code: country.to_owned(),
        latitude: Some(latitude),
        longitude: Some(longitude),
        ..Default::default()
    };
    // The same device throughout.
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0";
    let client = pb::ClientContext {
        location: Some(place),
        user_agent: agent.to_owned(),
        ..Default::default()
    };
    let request = pb::CreateSessionRequest { client: Some(client), ..new_session("ada") };
    server.try_create(request).await.expect("a session");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokyo_an_hour_after_berlin_raises_an_alert_unless_the_device_is_trusted() {
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
    let typed = found[0].evidence.clone().expect("evidence").typed;
    let Some(pb::evidence::Typed::ImpossibleTravel(travel)) = typed else { panic!("{typed:?}") };
    let (from, to) = (travel.from.expect("a point"), travel.to.expect("a point"));
    assert_eq!((from.latitude, from.longitude, to.latitude), (52.52, 13.405, 35.68));
    assert_eq!(to.time.expect("a time").seconds - from.time.expect("a time").seconds, 3600);
    assert_eq!((travel.speed_threshold_kmh, travel.distance_threshold_km), (900, 100));
    assert!((travel.distance_km - travel.certain_distance_km - 100.0).abs() < 1e-6);
    assert!((travel.speed_kmh - travel.certain_distance_km).abs() < 1e-6, "in an hour");

    let [device] = &server.devices("ada").await[..] else { panic!("not one device") };
    let trusted = Some(true);
    let trust = set_device(pb::UserDevice { trusted, ..update("ada", &device.device_id) });
    server.update_device(trust).await.expect("a device");
    server.advance(chrono::Duration::hours(2));
    create_in(&server, "DE", 52.52, 13.405).await;
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await, found, "suppressed");
    let kept = "SELECT count(*) FROM security_alerts WHERE rule_id = 'impossible_travel'
        AND suppression = 2";
    assert_eq!(server.db.count(kept).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_country_raises_an_alert_after_the_first_week() {
    let server = watching().await;
    create_in(&server, "DE", 52.52, 13.405).await;
    server.advance(chrono::Duration::days(7));
    create_in(&server, "FR", 48.8566, 2.3522).await;
    settled(&server).await;
    let found = alerts(&server, "ada").await;
    let rules: Vec<&str> = found.iter().map(|alert| alert.rule_id.as_str()).collect();
    assert_eq!(rules, ["new_country"]);
    let evidence = &found[0].evidence.as_ref().expect("evidence").values;
    assert_eq!((evidence["country"].as_str(), evidence["known_countries"].as_str()), ("FR", "DE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenth_session_within_an_hour_raises_an_alert() {
    let server = watching().await;
    for _ in 0..9 {
        server.create("ada").await;
    }
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await, []);
    let last = server.create("ada").await.session.expect("a session");
    settled(&server).await;
    let [alert] = &alerts(&server, "ada").await[..] else { panic!("not one alert") };
    assert_eq!(alert.rule_id, "rapid_creation");
    assert_eq!(alert.session_id, last.session_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_of_fifteen_users_from_one_network_are_one_alert_without_a_user() {
    let server = watching().await;
    fail_logins(&server, 15, 1).await;
    settled(&server).await;
    let all = pb::ListAlertsRequest::default();
    assert_eq!(server.list_alerts(all.clone()).await.expect("a list").alerts, []);
    let moved = "UPDATE session_activities SET xid = pg_current_xact_id(),
        ip_address = ('2001:db8:7:8::' || right(user_id, 1))::inet";
    server.db.connect().await.batch_execute(moved).await.expect("the same from one network");
    settled(&server).await;
    let [alert] = &server.list_alerts(all).await.expect("a list").alerts[..] else {
        panic!("not one alert")
    };
    assert_eq!((alert.rule_id.as_str(), alert.user_id.as_str()), ("failed_logins_network", ""));
    // A day later the memory of the network is deleted.
    server.advance(chrono::Duration::hours(25));
    let networks = "SELECT count(*) FROM network_memories";
    wait::until(async || server.db.count(networks).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_is_left_alone() {
    let server = watching().await;
    create_in(&server, "DE", 52.52, 13.405).await;
    create_in(&server, "JP", 35.68, 139.69).await;
    settled(&server).await;
    crate::stats::counted(&server).await;
    let looks = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let position = async || {
        let client = server.db.connect().await;
        let sql = "SELECT string_agg(read_to, ' ' ORDER BY consumer) FROM feed_consumers";
        let row = client.query_one(sql, &[]).await;
        row.expect("a row").get::<_, String>(0)
    };
    let (before, commits) = (position().await, server.db.count(looks).await);
    // Time for dozens of polls, each of which is a commit that Postgres counts.
    wait::until(async || server.db.count(looks).await > commits + 100).await;
    assert_eq!(position().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_memory_and_an_activity_that_cannot_be_handled_stop_nobody_elses_detection() {
    let server = start_with(|settings| {
        settings.detection = DetectionSettings::default();
        with_port(settings);
    })
    .await;
    fail_logins(&server, 2, 1).await;
    settled(&server).await;
    let spoil = "UPDATE user_memories SET memory = '7' WHERE user_id = 'user-1';
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON user_memories FOR EACH ROW
            WHEN (new.user_id = 'user-2') EXECUTE FUNCTION refuse()";
    server.db.connect().await.batch_execute(spoil).await.expect("damage");
    for _ in 0..12 {
        // Each user in its own transaction.
        server.advance(chrono::Duration::seconds(1));
        fail_logins(&server, 3, 1).await;
    }
    settled(&server).await;
    let passed = scrape(&server).await["sessiond_skipped_rows_total{by=\"detection\"}"];
    assert!(passed >= 1.0, "{passed}");
    for (user, count) in [("user-1", 1), ("user-2", 0), ("user-3", 0)] {
        // Activities in the same transaction as the failing one are skipped with it.
        assert!(alerts(&server, user).await.len() <= count, "{user}");
    }
    server.advance(chrono::Duration::hours(2));
    let sql = "DELETE FROM session_activities WHERE user_id = 'user-2'";
    server.db.connect().await.batch_execute(sql).await.expect("the end of the damage");
    let again = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        SELECT 'default', 'user-1', $1::text::timestamptz + t * interval '1 second',
            gen_random_uuid(), 22, 'test', false FROM generate_series(1, 12) t";
    let now = server.clock.now().to_rfc3339();
    server.db.connect().await.execute(again, &[&now]).await.expect("rows");
    settled(&server).await;
    assert_eq!(alerts(&server, "user-1").await.len(), 1, "the reader went on");
}
