//! How long the audit trail is kept.

use std::time::Duration as StdDuration;

use chrono::Duration;

use crate::detect::settled;
use crate::harness::{TestServer, start_with, wait};

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
    // From 14 March to 1 May at 12:00: 31 days before lies 31 March.
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
    // A turn begins by making partitions, so the turn that tried is over.
    server.advance(Duration::days(31));
    until_has(&server, "2026_08", true).await;
    assert!(has(&server, "2026_03").await);
    assert_eq!(server.activities(1).await, 1);
    reading.commit().await.expect("the end of the claim");
    until_has(&server, "2026_03", false).await;
}
