//! ListRules: the settings of every rule, and the verdicts on its findings.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Status;

use crate::detect::{settled, watching};
use crate::harness::calls::violations;
use crate::harness::policies::level;
use crate::harness::requests::length;
use crate::harness::{TestServer, start};

async fn list(server: &TestServer, tenant: &str) -> Result<pb::ListRulesResponse, Status> {
    let request = pb::ListRulesRequest { tenant_id: tenant.to_owned(), ..Default::default() };
    Ok(server.alerts().list_rules(request).await?.into_inner())
}

async fn rule(server: &TestServer, tenant: &str, id: &str) -> pb::Rule {
    let rules = list(server, tenant).await.expect("a list").rules;
    rules.into_iter().find(|rule| rule.rule_id == id).expect("a rule")
}

/// Inserts alerts of `new_device`, a minute apart, the last of them now.
async fn insert(
    server: &TestServer,
    many: i32,
    suppression: i16,
    state: i16,
    resolution: Option<i16>,
) {
    let sql = "INSERT INTO security_alerts (tenant_id, user_id, alert_id, category, severity, rule_id,
            rule_version, title, description, evidence, dedup_key, occurrence_count, first_seen_at,
            last_seen_at, action_taken, state, resolution, resolved_at, resolved_by, notes, revision,
            suppression)
        SELECT 'default', 'ada', lpad(to_hex(100000 - n), 32, '0')::uuid, 7, 2, 'new_device', 1, '', '',
            '{}', gen_random_uuid(), 3, t, t, 1, $3::smallint, $4,
            CASE WHEN $3::smallint = 3 THEN t END, CASE WHEN $3::smallint = 3 THEN 'test' END, '[]', 1, $2::smallint
        FROM generate_series(0, $1::int - 1) n,
            LATERAL (SELECT $5::text::timestamptz - n * interval '1 minute' AS t) at";
    let now = server.clock.now().to_rfc3339();
    let client = server.db.connect().await;
    // Each call inserts the same ids, so the rows of earlier calls get others.
    client
        .batch_execute("UPDATE security_alerts SET alert_id = gen_random_uuid()")
        .await
        .expect("ids");
    client.execute(sql, &[&many, &suppression, &state, &resolution, &now]).await.expect("rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_says_what_it_is_and_how_it_is_set() {
    let server = watching().await;
    let stated = pb::DetectionPolicy {
        impossible_travel: Some(pb::ImpossibleTravelRule {
            mode: pb::RuleMode::Enforce.into(),
            speed_kmh: Some(500),
            ..Default::default()
        }),
        learning_period: length(Duration::zero()),
        ..Default::default()
    };
    server.update(pb::Policy { detection: Some(stated), ..level("acme") }).await;
    let rules = list(&server, "acme").await.expect("a list").rules;
    assert_eq!(rules.len(), 11);
    for rule in &rules {
        assert!(
            rule.rule_version >= 1 && !rule.title.is_empty() && rule.description.ends_with('.')
        );
        assert_ne!(rule.category(), pb::Category::Unspecified);
        for one in &rule.thresholds {
            assert!((one.min_value..=one.max_value).contains(&one.value), "{one:?}");
            assert_ne!(one.unit(), pb::ThresholdUnit::Unspecified);
        }
    }
    let travel = rule(&server, "acme", "impossible_travel").await;
    assert_eq!(travel.mode(), pb::RuleMode::Enforce);
    assert_eq!(travel.action(), pb::RuleAction::StepUp);
    let set: Vec<(&str, i64)> =
        travel.thresholds.iter().map(|one| (one.name.as_str(), one.value)).collect();
    assert_eq!(set, [("speed_kmh", 500), ("distance_km", 100), ("accuracy_km", 50)]);
    let elsewhere = rule(&server, "", "impossible_travel").await;
    assert_eq!((elsewhere.mode(), elsewhere.thresholds[0].value), (pb::RuleMode::Alert, 900));
    let refusal = list(&server, "a b").await.expect_err("no tenant");
    assert_eq!(violations(&refusal), ["tenant_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_count_once_by_what_became_of_them() {
    let server = watching().await;
    let raise = pb::DetectionPolicy {
        rapid_creation: Some(pb::BurstRule { count: Some(2), ..Default::default() }),
        ..Default::default()
    };
    server.update(pb::Policy { detection: Some(raise), ..level("") }).await;
    for user in ["ada", "bob", "carol"] {
        for _ in 0..4 {
            server.create(user).await;
        }
    }
    settled(&server).await;
    let all = server.list_alerts(pb::ListAlertsRequest::default()).await.expect("a list").alerts;
    for (alert, resolution) in all.iter().zip([2, 1]) {
        let alert_id = alert.alert_id.clone();
        let request = pb::ResolveAlertRequest { alert_id, resolution, ..Default::default() };
        server.resolve(request).await.expect("an alert");
    }
    let counts = rule(&server, "", "rapid_creation").await.counts.expect("counts");
    let expected = pb::RuleCounts {
        raised: 3,
        suppressed: 0,
        unresolved: 1,
        true_positives: 1,
        false_positives: 1,
    };
    assert_eq!(counts, expected);
    assert_eq!(rule(&server, "", "new_device").await.counts, Some(pb::RuleCounts::default()));
    assert_eq!(
        rule(&server, "acme", "rapid_creation").await.counts,
        Some(pb::RuleCounts::default())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_ends_after_thirty_days_or_ten_thousand_alerts_and_says_so() {
    let server = start().await;
    let now = server.clock.now();
    let since = async || {
        let time = list(&server, "").await.expect("a list").counted_since_time;
        now.timestamp() - time.expect("a time").seconds
    };
    insert(&server, 3, 2, 1, None).await;
    insert(&server, 9_996, 0, 3, Some(2)).await;
    assert_eq!(since().await, 30 * 86_400);
    let counts = rule(&server, "", "new_device").await.counts.expect("counts");
    assert_eq!((counts.suppressed, counts.raised, counts.false_positives), (3, 9_996, 9_996));
    insert(&server, 10_001, 0, 1, None).await;
    server
        .db
        .connect()
        .await
        .batch_execute("DELETE FROM security_alerts WHERE state = 3 OR suppression = 2")
        .await
        .expect("only the last");
    assert_eq!(since().await, 9_999 * 60);
    let counts = rule(&server, "", "new_device").await.counts.expect("counts");
    assert_eq!((counts.raised, counts.unresolved), (10_000, 10_000));
    server.advance(Duration::days(30) - Duration::minutes(1));
    let counts = rule(&server, "", "new_device").await.counts.expect("counts");
    assert_eq!(counts.raised, 2, "those of the last minute");
}
