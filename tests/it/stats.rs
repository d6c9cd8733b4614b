//! GetSessionStats: its counts match the tables, whichever replica counted and whatever failed.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts};
use crate::harness::requests::{length, stamp};
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, audit, start, start_with, wait};

/// Longer than any test.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Waits until everything committed before has been counted.
pub async fn counted(server: &TestServer) {
    let unread = "SELECT count(*) FROM session_activities a, feed_consumers c
        WHERE a.xid IS NOT NULL AND c.consumer = 'stats'
        AND NOT pg_visible_in_snapshot(a.xid, c.read_to::pg_snapshot)";
    wait::until(async || server.db.count(unread).await == 0).await;
}

/// The statistics of the last 24 hours of a user, or of the tenant.
pub async fn day(server: &TestServer, user: &str) -> pb::GetSessionStatsResponse {
    ask(server, pb::GetSessionStatsRequest { user_id: user.to_owned(), ..Default::default() }).await
}

async fn ask(
    server: &TestServer,
    request: pb::GetSessionStatsRequest,
) -> pb::GetSessionStatsResponse {
    server.sessions().get_session_stats(request).await.expect("figures").into_inner()
}

/// Pairs of a name and a count, in the order of the names.
pub async fn pairs(server: &TestServer, sql: &str) -> Vec<(String, u64)> {
    let rows = server.db.connect().await.query(sql, &[]).await.expect("a query");
    let pair = |row: &tokio_postgres::Row| (row.get(0), row.get::<_, i64>(1).unsigned_abs());
    rows.iter().map(pair).collect()
}

/// Asserts that the figures of a user, or of the tenant, match the tables: sessions and their trail.
async fn reconcile(server: &TestServer, user: &str) {
    let answer = day(server, user).await;
    let total = answer.total.expect("a total");
    let whose = if user.is_empty() { "true".to_owned() } else { format!("user_id = '{user}'") };
    let kinds = format!(
        "SELECT kind::text, count(*) FROM session_activities
        WHERE {whose} AND kind IN (1, 2, 3, 4, 7) GROUP BY 1 ORDER BY 1"
    );
    let listed = [
        ("1", total.created_count),
        ("2", total.refreshed_count),
        ("3", total.terminated_count),
        ("4", total.expired_count),
        ("7", total.reauthenticated_count),
    ];
    let listed = listed.into_iter().filter(|(_, n)| *n > 0).map(|(kind, n)| (kind.to_owned(), n));
    assert_eq!(listed.collect::<Vec<_>>(), pairs(server, &kinds).await, "{user}");
    let of_sessions = async |column: &str, condition: &str| {
        let sql = format!(
            "SELECT coalesce({column}, '') AS k, count(*) FROM user_sessions
            WHERE {whose} AND {condition} GROUP BY 1 ORDER BY 1"
        );
        pairs(server, &sql).await
    };
    let sorted = |mut pairs: Vec<(String, u64)>| {
        pairs.sort();
        pairs
    };
    let reasons = total.end_reasons.iter().map(|r| (r.end_reason.to_string(), r.count)).collect();
    assert_eq!(sorted(reasons), of_sessions("end_reason::text", "state <> 1").await, "{user}");
    let kinds = total.device_types.iter().map(|d| (d.device_type.to_string(), d.count)).collect();
    assert_eq!(sorted(kinds), of_sessions("device_type::text", "true").await, "{user}");
    let countries = total.countries.iter().map(|c| (c.country_code.clone(), c.count)).collect();
    let country = "location->>'country_code'";
    assert_eq!(sorted(countries), of_sessions(country, "true").await, "{user}");
    let clients = total.clients.iter().map(|c| (c.client_id.clone(), c.count)).collect();
    assert_eq!(sorted(clients), of_sessions("client_id", "true").await, "{user}");
    let live = of_sessions("'live'", "state = 1").await;
    assert_eq!(answer.active_count, live.first().map_or(0, |(_, n)| *n), "{user}");
    // The buckets sum up to the whole.
    let parts = answer.buckets.iter().map(|b| b.stats.as_ref().expect("stats").created_count);
    assert_eq!(parts.sum::<u64>(), total.created_count);
}

fn login(
    user: &str,
    client: &str,
    kind: pb::DeviceType,
    country: &str,
) -> pb::CreateSessionRequest {
    let place = pb::Location { country_code: country.to_owned(), ..Default::default() };
    let device = pb::DeviceContext { r#type: kind.into(), ..Default::default() };
    let context = pb::ClientContext {
        location: Some(place).filter(|_| !country.is_empty()),
        device: Some(device),
        ..Default::default()
    };
    pb::CreateSessionRequest {
        client_id: client.to_owned(),
        client: Some(context),
        ..new_session(user)
    }
}

pub async fn report(server: &TestServer, user: &str, success: bool, times: i32) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        SELECT 'default', $1::text, $2::text::timestamptz, gen_random_uuid(), 20, 'test', $3::bool
        FROM generate_series(1, $4::int)";
    let now = server.clock.now().to_rfc3339();
    let client = server.db.connect().await;
    client.execute(sql, &[&user, &now, &success, &times]).await.expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_those_of_the_tables_whichever_replica_did_what() {
    let server = start().await;
    let replica = server.replica().await;
    use pb::DeviceType::{Desktop, Mobile, Tv};
    let users = ["ada", "bob", "cyd"];
    let mut ends = Vec::new();
    for (n, user) in users.into_iter().enumerate() {
        let at = if n % 2 == 0 { &server } else { &replica };
        for (client, kind, country) in
            [("web", Desktop, "DE"), ("web", Mobile, "DE"), ("app", Mobile, "FR"), ("tv", Tv, "")]
        {
            let created = at.try_create(login(user, client, kind, country)).await.expect("ok");
            let (id, _, refresh) = parts(&created);
            let next = replica.refresh(&refresh).await.expect("ok").tokens.expect("tokens");
            // A retry is not counted.
            server.refresh(&refresh).await.expect("the same");
            server.refresh(&next.refresh_token).await.expect("ok");
            ends.push(id);
        }
        server.advance(Duration::minutes(50));
        at.reauthenticate(second_factor(ends.last().expect("one"))).await.expect("a step-up");
    }
    // Ends of all kinds: single, many at once, by reuse, and by expiry.
    server.terminate(&ends[8]).await.expect("an end");
    server.steal_from("bob").await;
    let filter = pb::SessionFilter { user_id: "cyd".to_owned(), ..Default::default() };
    let request = pb::TerminateSessionsRequest {
        filter: Some(filter),
        reason: pb::EndReason::Admin.into(),
        ..Default::default()
    };
    replica.terminate_many(request).await.expect("ends");
    server.create("cyd").await;
    wait::until(async || server.activities(4).await > 0).await;
    counted(&server).await;
    for user in ["", "ada", "bob", "cyd", "nobody"] {
        reconcile(&server, user).await;
    }
    audit::check(&server.db).await;
    // Until all have expired.
    server.advance(Duration::hours(2));
    wait::until(async || {
        server.db.count("SELECT count(*) FROM user_sessions WHERE state = 1").await == 0
    })
    .await;
    counted(&server).await;
    for user in ["", "ada", "bob", "cyd"] {
        reconcile(&server, user).await;
        assert_eq!(day(&server, user).await.active_count, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_activity_is_counted_once_also_when_a_replica_is_cut_off() {
    let server = start().await;
    let second = server.replica().await;
    let third = server.replica().await;
    for n in 0..40 {
        report(&server, &format!("user-{}", n % 7), n % 4 != 0, 100).await;
        server.create(&format!("user-{}", n % 7)).await;
    }
    // Stops it at any point of its work.
    drop(third);
    counted(&server).await;
    let total = day(&server, "").await.total.expect("a total");
    assert_eq!((total.succeeded_activity_count, total.failed_activity_count), (3000, 1000));
    assert_eq!(total.activity_success_rate, Some(0.75));
    assert_eq!((total.created_count, total.peak_active_count), (40, 40));
    let mut of_users = 0;
    for n in 0..7 {
        of_users += day(&server, &format!("user-{n}")).await.total.expect("a total").created_count;
    }
    assert_eq!(of_users, 40);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_lie_in_the_hours_of_what_happened_and_the_level_goes_on() {
    let server = start().await;
    let began = server.clock.now();
    let (id, ..) = parts(&server.create("ada").await);
    server.create("ada").await;
    server.terminate(&id).await.expect("an end");
    server.advance(Duration::minutes(50));
    counted(&server).await;
    let request = pb::GetSessionStatsRequest {
        user_id: "ada".to_owned(),
        start_time: stamp(began - Duration::hours(2)),
        end_time: stamp(began + Duration::hours(3)),
        ..Default::default()
    };
    let answer = ask(&server, request.clone()).await;
    let of = |f: fn(&pb::SessionStats) -> u64| -> Vec<u64> {
        answer.buckets.iter().map(|bucket| f(bucket.stats.as_ref().expect("stats"))).collect()
    };
    assert_eq!(of(|s| s.created_count), [0, 0, 2, 0, 0, 0]);
    assert_eq!(of(|s| s.terminated_count), [0, 0, 1, 0, 0, 0]);
    // The later hours have not begun.
    assert_eq!(of(|s| s.peak_active_count), [0, 0, 2, 0, 0, 0]);
    assert_eq!((answer.active_count, answer.as_of_time), (1, stamp(server.clock.now())));
    server.advance(Duration::minutes(20));
    let answer = ask(&server, request.clone()).await;
    assert_eq!(answer.buckets[3].stats.as_ref().expect("stats").peak_active_count, 1);
    let wide = pb::GetSessionStatsRequest { bucket: length(Duration::hours(4)), ..request };
    let answer = ask(&server, wide).await;
    let ends: Vec<_> = answer.buckets.iter().map(|bucket| bucket.end_time).collect();
    assert_eq!(ends.last(), Some(&answer.end_time));
    assert_eq!((ends.len(), answer.total.expect("a total").peak_active_count), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_has_zeros_and_the_answer_says_when_it_was_counted() {
    let server = start_with(|settings| settings.intervals.roll_up = HOUR).await;
    let answer = day(&server, "nobody").await;
    assert_eq!((answer.active_count, answer.total), (0, Some(pb::SessionStats::default())));
    assert_eq!((answer.buckets.len(), answer.as_of_time), (25, stamp(server.clock.now())));
    let read = server.clock.now().to_rfc3339();
    let here = "read_to = pg_current_snapshot()::text";
    server.meddle(&format!("UPDATE feed_consumers SET updated_at = '{read}', {here}")).await;
    server.advance(Duration::minutes(1));
    let created = server.clock.now();
    server.create("ada").await;
    server.advance(Duration::minutes(1));
    let answer = day(&server, "").await;
    assert_eq!(answer.active_count, 0);
    assert_eq!(answer.as_of_time, stamp(created));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_from_before_there_were_statistics_are_active() {
    let server = start_with(|settings| settings.intervals.roll_up = HOUR).await;
    let (id, ..) = parts(&server.create("ada").await);
    server.create("ada").await;
    server.create("bob").await;
    server.terminate(&id).await.expect("an end");
    let client = server.db.connect().await;
    let migration = [
        include_str!("../../migrations/00000000000021_roll_ups/down.sql"),
        include_str!("../../migrations/00000000000021_roll_ups/up.sql"),
    ];
    client.batch_execute(&migration.concat()).await.expect("down and up");
    let replica = server.replica().await;
    server.create("bob").await;
    counted(&server).await;
    for (user, active, created) in [("", 3, 1), ("ada", 1, 0), ("bob", 2, 1)] {
        let answer = day(&replica, user).await;
        let total = answer.total.expect("a total");
        assert_eq!((answer.active_count, total.created_count), (active, created), "{user}");
        assert_eq!(total.peak_active_count, active);
    }
}
