//! Requests that GetSessionStats refuses, and the retention of figures.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Status;

use crate::harness::calls::{new_session, violations};
use crate::harness::requests::{length, stamp};
use crate::harness::{TestServer, start, wait};
use crate::stats::counted;

async fn ask(
    server: &TestServer,
    hours: i64,
    bucket: Option<Duration>,
) -> Result<pb::GetSessionStatsResponse, Status> {
    let now = server.clock.now();
    let request = pb::GetSessionStatsRequest {
        start_time: stamp(now - Duration::hours(hours)),
        end_time: stamp(now),
        bucket: bucket.and_then(length),
        ..Default::default()
    };
    Ok(server.sessions().get_session_stats(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_and_buckets_keep_their_limits_at_the_edges() {
    let server = start().await;
    // On the hour, so that no window is widened.
    let now = server.clock.now();
    server.advance(
        Duration::hours(13) - (now - now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc()),
    );
    let hours = |n| Some(Duration::hours(n));
    for (length, bucket, buckets) in [
        (1000, None, 1000),
        (1000, hours(1), 1000),
        (93 * 24, hours(3), 744),
        (93 * 24, hours(24), 93),
        (5, hours(2), 3),
        (1, hours(100_000), 1),
    ] {
        let answer = ask(&server, length, bucket).await.expect("figures");
        assert_eq!(answer.buckets.len(), buckets, "{length} h by {bucket:?}");
    }
    for (length, bucket, field) in [
        (1001, None, "bucket"),
        (93 * 24 + 1, hours(24), "end_time"),
        (0, None, "end_time"),
        (-1, None, "end_time"),
        (5, hours(0), "bucket"),
        (5, hours(-1), "bucket"),
        (5, Some(Duration::minutes(90)), "bucket"),
        (5, Some(Duration::hours(1) + Duration::microseconds(1)), "bucket"),
    ] {
        let refused = ask(&server, length, bucket).await.expect_err("a refusal");
        assert_eq!(violations(&refused), [field], "{length} h by {bucket:?}");
    }
    let wrong = pb::GetSessionStatsRequest {
        tenant_id: "a b".to_owned(),
        user_id: "x".repeat(129),
        bucket: length(Duration::minutes(1)),
        ..Default::default()
    };
    let refused = server.sessions().get_session_stats(wrong).await.expect_err("all of it");
    assert_eq!(violations(&refused), ["bucket", "tenant_id", "user_id"]);
    let longest = pb::GetSessionStatsRequest { user_id: "x".repeat(128), ..Default::default() };
    server.sessions().get_session_stats(longest).await.expect("as long as may be");
    for seconds in [-62_135_596_800, 253_402_300_799] {
        let end_time = Some(prost_types::Timestamp { seconds, nanos: 0 });
        let request = pb::GetSessionStatsRequest { end_time, ..Default::default() };
        let refused = server.sessions().get_session_stats(request).await;
        assert_eq!(violations(&refused.expect_err("no such day")), ["end_time"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_are_told_apart() {
    let server = start().await;
    for n in 0..103 {
        let client_id = format!("client-{n}");
        let request = pb::CreateSessionRequest { client_id, ..new_session("ada") };
        server.try_create(request).await.expect("a session");
    }
    counted(&server).await;
    let total = ask(&server, 1, None).await.expect("figures").total.expect("a total");
    assert_eq!((total.created_count, total.clients.len()), (103, 101));
    let others = pb::ClientCount { client_id: String::new(), count: 3 };
    assert_eq!(total.clients[0], others, "most frequent first");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_deleted_when_their_time_is_over() {
    let server = start().await;
    server.create("ada").await;
    counted(&server).await;
    let left = async |n: i64| {
        wait::until(async || {
            server.db.count("SELECT count(*) FROM roll_ups WHERE counts ? 'created'").await == n
        })
        .await;
    };
    left(2).await;
    server.advance(Duration::days(94));
    left(1).await;
    server.advance(Duration::days(307));
    left(0).await;
}
