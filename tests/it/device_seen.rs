//! The first and last activity of a device, and the number of its active sessions.

use std::time::Duration as StdDuration;

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::parts;
use crate::harness::devices::on;
use crate::harness::requests::stamp;
use crate::harness::{TestServer, audit, start, start_with};

/// Longer than a test takes, and far less than an idle timeout, so that activity is not flushed at once.
const NEVER: StdDuration = StdDuration::from_secs(60);

/// When and where a device was last seen.
async fn last_seen(server: &TestServer, id: &str) -> (Option<prost_types::Timestamp>, String) {
    let device = server.device("ada", id).await;
    (device.last_seen_time, device.last_seen_ip_address)
}

fn at(server: &TestServer, ip: &str) -> (Option<prost_types::Timestamp>, String) {
    (stamp(server.clock.now()), ip.to_owned())
}

fn moved(token: &str, ip_address: &str) -> pb::RefreshSessionRequest {
    let client = pb::ClientContext { ip_address: ip_address.to_owned(), ..Default::default() };
    pb::RefreshSessionRequest { refresh_token: token.to_owned(), client: Some(client) }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_seen_stays_and_last_seen_moves_with_creates_refreshes_and_use() {
    let server = start_with(|settings| settings.intervals.flush = NEVER).await;
    let mut request = on("ada", "print", "::ffff:192.0.2.1");
    let oslo = pb::Location { city: "Oslo".to_owned(), ..Default::default() };
    request.client.as_mut().expect("a client").location = Some(oslo.clone());
    let (created, id) = server.create_on(request).await;
    let (_, access, refresh) = parts(&created);
    let first = server.device("ada", &id).await;
    assert_eq!(
        (first.first_seen_time, first.first_seen_ip_address.as_str()),
        (stamp(server.clock.now()), "192.0.2.1")
    );
    assert_eq!(
        (first.last_seen_time, first.last_seen_ip_address.as_str()),
        (first.first_seen_time, "192.0.2.1")
    );
    assert_eq!(
        (first.first_seen_location.as_ref(), first.last_seen_location.as_ref()),
        (Some(&oslo), Some(&oslo))
    );

    server.advance(Duration::minutes(1));
    server.create_on(on("ada", "print", "2001:db8::1")).await;
    assert_eq!(last_seen(&server, &id).await, at(&server, "2001:db8::1"));

    server.advance(Duration::minutes(1));
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    assert_eq!(last_seen(&server, &id).await, at(&server, "192.0.2.1"), "not written yet");

    server.advance(Duration::minutes(1));
    let request = moved(&refresh, "192.0.2.2");
    server.sessions().refresh_session(request).await.expect("a successor");
    assert_eq!(last_seen(&server, &id).await, at(&server, "192.0.2.2"));
    let written = "SELECT count(*) FROM devices WHERE last_seen_ip = '192.0.2.2'";
    assert_eq!(server.db.count(written).await, 1);

    let now = server.device("ada", &id).await;
    assert_eq!(
        (now.first_seen_time, now.first_seen_ip_address),
        (first.first_seen_time, first.first_seen_ip_address)
    );
    assert_eq!((now.first_seen_location, now.etag), (first.first_seen_location, first.etag));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_refresh_does_not_write_the_device() {
    let server = start().await;
    let (created, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let version = format!("SELECT xmin::text::bigint FROM devices WHERE device_id = '{id}'");
    let before = server.db.count(&version).await;
    server.advance(Duration::minutes(1));
    let (_, _, token) = parts(&created);
    let request = moved(&token, "192.0.2.1");
    server.sessions().refresh_session(request).await.expect("a successor");
    assert_eq!(server.db.count(&version).await, before);
    assert_eq!(last_seen(&server, &id).await, at(&server, "192.0.2.1"), "its session tells");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_sessions_last_saw_is_kept_whichever_way_they_ended() {
    let server = start_with(|settings| settings.policy.access_token_ttl = Duration::hours(1)).await;
    let (first, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let (second, _) = server.create_on(on("ada", "print", "192.0.2.2")).await;
    server.advance(Duration::minutes(30));
    let ((session, access, _), used) = (parts(&first), at(&server, "192.0.2.1"));
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    server.advance(Duration::minutes(1));
    server.terminate(&session).await.expect("ok");
    assert_eq!(last_seen(&server, &id).await, used, "the activity, not the end");
    assert_eq!(server.device("ada", &id).await.active_session_count, 1);

    // The other session was not used since, so its end must not move the last activity back.
    server.advance(Duration::hours(1));
    let device = server.device("ada", &id).await;
    assert_eq!(device.active_session_count, 0, "it has expired, swept or not");
    crate::harness::wait::until(async || server.activities(4).await == 1).await;
    assert_eq!(last_seen(&server, &id).await, used);
    let late = server.get(&parts(&second).0).await.expect("a session");
    assert_eq!(late.state(), pb::SessionState::Expired);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn use_that_is_not_written_yet_keeps_a_session_counted() {
    let server = start_with(|settings| {
        settings.policy.access_token_ttl = Duration::hours(12);
        (settings.intervals.flush, settings.intervals.sweep) = (NEVER, NEVER);
    })
    .await;
    let (created, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.advance(Duration::minutes(50));
    server.validate(&parts(&created).1).await;
    server.advance(Duration::minutes(50));
    assert_eq!(server.device("ada", &id).await.active_session_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_migration_finds_the_devices_of_sessions_that_were_there() {
    let server = start_with(|settings| settings.intervals.flush = NEVER).await;
    let (first, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.advance(Duration::minutes(1));
    server.create_on(on("ada", "print", "192.0.2.2")).await;
    server.create_on(on("ada", "other", "192.0.2.3")).await;
    server.create("bob").await;
    server.advance(Duration::minutes(1));
    let request = moved(&parts(&first).2, "192.0.2.4");
    server.sessions().refresh_session(request).await.expect("a successor");
    let known = (server.devices("ada").await, server.devices("bob").await);

    let database = server.db.connect().await;
    for step in [
        include_str!("../../migrations/00000000000007_devices/down.sql"),
        include_str!("../../migrations/00000000000007_devices/up.sql"),
    ] {
        database.batch_execute(step).await.expect("a migration");
    }
    let mut found = (server.devices("ada").await, server.devices("bob").await);
    // The first address is overwritten once the session has moved.
    let print = found.0.first_mut().expect("the device seen last");
    assert_eq!(print.first_seen_ip_address, "192.0.2.4");
    print.first_seen_ip_address = "192.0.2.1".to_owned();
    assert_eq!(found, known);
}
