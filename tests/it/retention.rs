//! Retention of the audit trail.

use std::time::Duration as StdDuration;

use chrono::Duration;

use sessiond::grpc::pb;

use crate::detect::settled;
use crate::harness::scrape::{scrape, with_port};
use crate::harness::{TestServer, start_on, start_with, wait};

async fn start() -> TestServer {
    start_with(|settings| settings.activity_retention = StdDuration::from_secs(31 * 86_400)).await
}

async fn has(server: &TestServer, month: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_class WHERE relname = 'session_activities_{month}'");
    server.db.count(&sql).await == 1
}

async fn until_has(server: &TestServer, month: &str, there: bool) {
    wait::until(async || has(server, month).await == there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_goes_once_its_last_day_is_past_its_time() {
    let server = start().await;
    server.create("ada").await;
    settled(&server).await;
    until_has(&server, "2026_02", true).await;
    // From 14 March to 1 May at 12:00; 31 days before that is 31 March.
    server.advance(Duration::days(48));
    until_has(&server, "2026_07", true).await;
    until_has(&server, "2026_02", false).await;
    server.advance(Duration::hours(11));
    until_has(&server, "2026_02", false).await;
    assert!(has(&server, "2026_03").await);
    assert_eq!(server.activities(1).await, 1);
    server.advance(Duration::hours(2));
    until_has(&server, "2026_03", false).await;
    assert_eq!(server.activities(1).await, 0);
    server.create("ada").await;
    assert_eq!(server.activities(1).await, 1, "this month goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_a_reader_has_not_read_stays() {
    let server = start().await;
    let mut other = server.db.connect().await;
    let reading = other.transaction().await.expect("a transaction");
    let claim = "SELECT 1 FROM feed_consumers WHERE consumer = 'detect' FOR UPDATE";
    reading.execute(claim, &[]).await.expect("a claim");
    server.create("ada").await;
    server.advance(Duration::days(60));
    until_has(&server, "2026_02", false).await;
    // A run begins by creating partitions, so the run that tried has ended.
    server.advance(Duration::days(31));
    until_has(&server, "2026_08", true).await;
    assert!(has(&server, "2026_03").await);
    assert_eq!(server.activities(1).await, 1);
    reading.commit().await.expect("the end of the claim");
    until_has(&server, "2026_03", false).await;
}

/// Writes reports of `user` that happened so many days from now, as if a clock had been wrong.
async fn stray(server: &TestServer, user: &str, days: i32, count: i32) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        SELECT 'default', $1, $2::text::timestamptz + $3::int * interval '1 day', gen_random_uuid(),
            21, 'test', true
        FROM generate_series(1, $4::int)";
    let now = server.clock.now().to_rfc3339();
    let client = server.db.connect().await;
    client.execute(sql, &[&user, &now, &days, &count]).await.expect("rows");
}

async fn in_default(server: &TestServer) -> i64 {
    server.db.count("SELECT count(*) FROM session_activities_default").await
}

async fn reported(server: &TestServer, user: &str) -> usize {
    let filter = pb::ActivityFilter { user_id: user.to_owned(), ..Default::default() };
    let request =
        pb::ListActivitiesRequest { filter: Some(filter), page_size: 1000, ..Default::default() };
    let list = server.sessions().list_activities(request).await.expect("a list");
    list.into_inner().activities.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_ahead_of_its_time_keeps_no_server_from_starting_and_moves_into_its_month() {
    let server = start().await;
    stray(&server, "ada", 92, 2).await;
    assert_eq!(in_default(&server).await, 2);
    let (db, clock) = server.stop().await;
    clock.advance(Duration::days(61));
    let server = start_on(db, clock, with_port).await;
    // Once every consumer of the feed has read them.
    until_has(&server, "2026_06", true).await;
    assert_eq!((in_default(&server).await, reported(&server, "ada").await), (0, 2));
    // A running server moves rows too when their month comes near.
    stray(&server, "bob", 92, 3).await;
    server.advance(Duration::days(32));
    until_has(&server, "2026_08", true).await;
    assert_eq!((in_default(&server).await, reported(&server, "bob").await), (0, 3));
    // Consumers do not read moved rows again, and the rows are dropped with their month.
    settled(&server).await;
    wait::until(async || scrape(&server).await["sessiond_stray_activities"] == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_to_move_stay_readable_and_are_named_and_old_ones_go() {
    let server = start_with(|settings| {
        settings.activity_retention = StdDuration::from_secs(31 * 86_400);
        with_port(settings);
    })
    .await;
    stray(&server, "ada", 92, 5_001).await;
    stray(&server, "eve", -3_000, 700).await;
    settled(&server).await;
    // Rows older than the retention are deleted at once.
    wait::until(async || in_default(&server).await == 5_001).await;
    wait::until(async || scrape(&server).await["sessiond_stray_activities"] == 5_001.0).await;
    let (db, clock) = server.stop().await;
    clock.advance(Duration::days(61));
    let server = start_on(db, clock, with_port).await;
    assert!(!has(&server, "2026_06").await && has(&server, "2026_05").await);
    assert_eq!(reported(&server, "ada").await, 1000, "a page of them");
    server.create("ada").await;
    // Their month is dropped in the end, and the default partition is empty.
    let (db, clock) = server.stop().await;
    clock.advance(Duration::days(95));
    let server = start_on(db, clock, |settings| {
        settings.activity_retention = StdDuration::from_secs(31 * 86_400);
    })
    .await;
    wait::until(async || in_default(&server).await == 0).await;
}
