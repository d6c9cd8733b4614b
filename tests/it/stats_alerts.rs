//! GetAlertStats: its counts match the table.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::model::detection::DetectionSettings;

use crate::harness::calls::violations;
use crate::harness::requests::{length, stamp};
use crate::harness::{TestServer, audit, start, start_with, wait};
use crate::stats::{counted, pairs};

async fn day(server: &TestServer, user: &str) -> pb::GetAlertStatsResponse {
    let request = pb::GetAlertStatsRequest { user_id: user.to_owned(), ..Default::default() };
    server.alerts().get_alert_stats(request).await.expect("figures").into_inner()
}

async fn acknowledge(server: &TestServer, alert_id: &str) {
    let alert_id = alert_id.to_owned();
    let request = pb::AcknowledgeAlertRequest { alert_id, ..Default::default() };
    server.acknowledge(request).await.expect("an acknowledgement");
}

async fn resolve(server: &TestServer, alert_id: &str) {
    let request = pb::ResolveAlertRequest {
        alert_id: alert_id.to_owned(),
        resolution: pb::Resolution::Benign.into(),
        ..Default::default()
    };
    server.resolve(request).await.expect("a resolution");
}

/// Asserts that the figures of a user, or of the tenant, match the alerts.
async fn reconcile(server: &TestServer, user: &str) {
    let answer = day(server, user).await;
    let total = answer.total.expect("a total");
    let whose = if user.is_empty() { "true".to_owned() } else { format!("user_id = '{user}'") };
    let by = async |column: &str| {
        let sql = format!(
            "SELECT {column}::text, count(*) FROM security_alerts
            WHERE {whose} AND suppression = 0 GROUP BY 1 ORDER BY 1"
        );
        pairs(server, &sql).await
    };
    let sorted = |mut pairs: Vec<(String, u64)>| {
        pairs.sort();
        pairs
    };
    let listed = total.categories.iter().map(|c| (c.category.to_string(), c.count)).collect();
    assert_eq!(sorted(listed), by("category").await, "{user}");
    let listed = total.severities.iter().map(|s| (s.severity.to_string(), s.count)).collect();
    assert_eq!(sorted(listed), by("severity").await, "{user}");
    let listed = total.rules.iter().map(|r| (r.rule_id.clone(), r.count)).collect();
    assert_eq!(sorted(listed), by("rule_id").await, "{user}");
    let states = by("state").await;
    let there = |state: &str| states.iter().find(|(s, _)| s == state).map_or(0, |(_, n)| *n);
    assert_eq!((answer.open_count, answer.acknowledged_count), (there("1"), there("2")), "{user}");
    assert_eq!((total.resolved_count, total.reopened_count), (there("3"), 0), "{user}");
    let mean = async |step: &str| {
        let sql = format!(
            "SELECT floor(avg(extract(epoch FROM {step} - first_seen_at) * 1000000))::bigint
            FROM security_alerts WHERE {whose} AND suppression = 0 AND {step} IS NOT NULL"
        );
        let row = server.db.connect().await.query_one(&sql, &[]).await.expect("a mean");
        row.get::<_, Option<i64>>(0).and_then(|micros| length(Duration::microseconds(micros)))
    };
    assert_eq!(total.mean_time_to_acknowledge, mean("acknowledged_at").await, "{user}");
    assert_eq!(total.mean_time_to_resolve, mean("resolved_at").await, "{user}");
    let parts = answer.buckets.iter().map(|b| b.stats.as_ref().expect("stats").raised_count);
    assert_eq!(parts.sum::<u64>(), total.raised_count);
}

/// Reports failed logins of three users: an alert each, and many repetitions of it.
async fn fail_logins(server: &TestServer) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        SELECT 'default', 'user-' || u, $1::text::timestamptz - t * interval '1 second',
            gen_random_uuid(), 22, 'test', false
        FROM generate_series(1, 3) u, generate_series(1, 12) t";
    let now = server.clock.now().to_rfc3339();
    server.db.connect().await.execute(sql, &[&now]).await.expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_those_of_the_alerts_whichever_replica_did_what() {
    let on = |settings: &mut sessiond::server::Settings| {
        settings.detection = DetectionSettings::default();
    };
    let server = start_with(on).await;
    let replica = server.replica_with(on).await;
    let mut alerts = Vec::new();
    for user in ["ada", "bob", "cyd", "ada"] {
        alerts.push(server.steal_from(user).await.alert_id);
        server.advance(Duration::seconds(7));
    }
    for _ in 0..3 {
        fail_logins(&server).await;
        server.advance(Duration::minutes(1));
    }
    let found = "SELECT count(*) FROM security_alerts WHERE rule_id = 'failed_logins'";
    wait::until(async || server.db.count(found).await == 3).await;
    acknowledge(&replica, &alerts[0]).await;
    // Acknowledged twice, it is counted once.
    acknowledge(&server, &alerts[0]).await;
    server.advance(Duration::minutes(61));
    acknowledge(&server, &alerts[1]).await;
    resolve(&replica, &alerts[1]).await;
    resolve(&server, &alerts[2]).await;
    counted(&server).await;
    counted(&replica).await;
    for user in ["", "ada", "bob", "cyd", "user-1", "nobody"] {
        reconcile(&server, user).await;
    }
    // A suppressed alert is never counted, whatever happens to it.
    server.meddle("UPDATE security_alerts SET suppression = 2 WHERE user_id = 'user-2'").await;
    let before = day(&server, "").await.total;
    let sql = "SELECT alert_id::text FROM security_alerts WHERE user_id = 'user-2'";
    let row = server.db.connect().await.query_one(sql, &[]).await.expect("the alert");
    resolve(&server, row.get(0)).await;
    counted(&server).await;
    assert_eq!(day(&server, "").await.total, before);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_an_erased_user_are_open_no_more() {
    let server = start().await;
    let alert = server.steal_from("ada").await.alert_id;
    server.steal_from("bob").await;
    acknowledge(&server, &alert).await;
    server.erase("ada").await.expect("an erasure");
    let answer = day(&server, "").await;
    assert_eq!((answer.open_count, answer.acknowledged_count), (1, 0));
    let total = answer.total.expect("a total");
    assert_eq!((total.raised_count, total.acknowledged_count), (2, 1), "these happened");
    assert_eq!(day(&server, "ada").await.total, Some(pb::AlertStats::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_are_those_of_the_statistics_of_sessions() {
    let server = start().await;
    let now = server.clock.now();
    let request = pb::GetAlertStatsRequest {
        tenant_id: "a b".to_owned(),
        user_id: "x".repeat(129),
        start_time: stamp(now - Duration::days(94)),
        bucket: length(Duration::minutes(90)),
        ..Default::default()
    };
    let refused = server.alerts().get_alert_stats(request.clone()).await.expect_err("all of it");
    assert_eq!(violations(&refused), ["start_time", "bucket", "tenant_id", "user_id"]);
    let request = pb::GetAlertStatsRequest {
        start_time: stamp(now - Duration::days(92)),
        bucket: length(Duration::days(1)),
        ..Default::default()
    };
    let answer = server.alerts().get_alert_stats(request).await.expect("figures").into_inner();
    assert_eq!(answer.buckets.len(), 93);
}
