//! EvaluateRules: what other settings would have found in the stored activities. It writes nothing.

use chrono::Duration;
use prost_types::Timestamp;
use sessiond::grpc::pb;
use tonic::Status;

use crate::detect::{alerts, settled, watching};
use crate::harness::calls::{new_session, reason, violations};
use crate::harness::requests::length;
use crate::harness::{TestServer, wait};

/// Evaluates the last day, and the next half hour.
fn request(server: &TestServer, change: pb::DetectionPolicy) -> pb::EvaluateRulesRequest {
    let at = |after: Duration| {
        let time = server.clock.now() + after;
        Some(Timestamp { seconds: time.timestamp(), nanos: 0 })
    };
    pb::EvaluateRulesRequest {
        detection: Some(change),
        start_time: at(-Duration::days(1)),
        end_time: at(Duration::minutes(30)),
        ..Default::default()
    }
}

fn failed_logins(count: u32) -> pb::DetectionPolicy {
    pb::DetectionPolicy {
        failed_logins: Some(pb::BurstRule { count: Some(count), ..Default::default() }),
        ..Default::default()
    }
}

async fn evaluate(
    server: &TestServer,
    request: pb::EvaluateRulesRequest,
) -> Result<pb::EvaluateRulesResponse, Status> {
    Ok(server.alerts().evaluate_rules(request).await?.into_inner())
}

/// Raised and suppressed of a rule: with the current settings, and with the change.
fn counts(answer: &pb::EvaluateRulesResponse, rule: &str) -> ((u32, u32), (u32, u32)) {
    let found = answer.rules.iter().find(|found| found.rule_id == rule).expect("a rule");
    let (current, changed) = (found.current.expect("counts"), found.changed.expect("counts"));
    ((current.raised, current.suppressed), (changed.raised, changed.suppressed))
}

/// Reports failed logins of users `user-1` to `user-{users}`, each `times`, a second apart, before now.
async fn fail_logins(server: &TestServer, users: i32, times: i32) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success, ip_address)
        SELECT 'default', 'user-' || u, $3::text::timestamptz - t * interval '1 second',
            gen_random_uuid(), 22, 'test', false, '192.0.2.7'
        FROM generate_series(1, $1::int) u, generate_series(1, $2::int) t";
    let now = server.clock.now().to_rfc3339();
    let client = server.db.connect().await;
    client.execute(sql, &[&users, &times, &now]).await.expect("rows");
}

/// All rows that detection may write, as one text.
async fn written(server: &TestServer) -> String {
    let sql = "SELECT concat_ws('/', (SELECT count(*) FROM session_activities),
        (SELECT md5(string_agg(a::text, ',' ORDER BY alert_id)) FROM security_alerts a),
        (SELECT md5(string_agg(m::text, ',' ORDER BY user_id)) FROM user_memories m),
        (SELECT md5(string_agg(n::text, ',' ORDER BY network)) FROM network_memories n),
        (SELECT md5(string_agg(p::text, ',')) FROM policies p))";
    let client = server.db.connect().await;
    client.query_one(sql, &[]).await.expect("a row").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_threshold_shows_what_it_adds_and_writes_nothing() {
    let server = watching().await;
    fail_logins(&server, 3, 12).await;
    settled(&server).await;
    fail_logins(&server, 4, 3).await;
    settled(&server).await;
    let before = written(&server).await;
    let answer = evaluate(&server, request(&server, failed_logins(3))).await.expect("an answer");
    assert!(answer.complete);
    // Each alert, and each repetition of its incident, is an activity too.
    assert_eq!(answer.activity_count, 3 * 12 + 4 * 3 + 3 * 2);
    assert_eq!(counts(&answer, "failed_logins"), ((3, 0), (4, 0)));
    assert_eq!(counts(&answer, "failed_logins_network"), ((0, 0), (0, 0)));
    let [sample] = &answer.samples[..] else { panic!("{answer:?}") };
    assert_eq!(sample.user_id, "user-4");
    assert_eq!(sample.change(), pb::EvaluationChange::Added);
    assert_eq!(sample.rule_id, "failed_logins");
    let Some(pb::evidence::Typed::Burst(burst)) = sample.evidence.clone().expect("evidence").typed
    else {
        panic!("{sample:?}")
    };
    assert_eq!((burst.count, burst.threshold), (3, 3));
    assert_eq!(written(&server).await, before);
    // A higher threshold, for one user.
    let one = pb::EvaluateRulesRequest {
        user_id: "user-2".to_owned(),
        ..request(&server, failed_logins(50))
    };
    let answer = evaluate(&server, one).await.expect("an answer");
    assert_eq!(counts(&answer, "failed_logins"), ((1, 0), (0, 0)));
    assert_eq!(answer.samples.len(), 1);
    assert_eq!(answer.samples[0].change(), pb::EvaluationChange::Removed);
    assert_eq!(answer.activity_count, 12 + 3 + 2);
    // A disabled rule.
    let off = pb::BurstRule { mode: pb::RuleMode::Off.into(), ..Default::default() };
    let off = pb::DetectionPolicy { failed_logins: Some(off), ..Default::default() };
    let answer = evaluate(&server, request(&server, off)).await.expect("an answer");
    assert_eq!(counts(&answer, "failed_logins"), ((3, 0), (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_find_exactly_what_was_raised() {
    let server = watching().await;
    fail_logins(&server, 120, 15).await;
    for n in 0..12 {
        // The device and the country change; the learning period has not passed.
        let place = pb::Location {
            country_code: if n % 2 == 0 { "DE" } else { "FR" }.to_owned(),
            ..Default::default()
        };
        let client = pb::ClientContext {
            location: Some(place),
            user_agent: if n % 3 == 0 { "curl/8" } else { "Firefox/140.0" }.to_owned(),
            ..Default::default()
        };
        let request = pb::CreateSessionRequest { client: Some(client), ..new_session("ada") };
        server.try_create(request).await.expect("a session");
        server.advance(Duration::seconds(10));
    }
    settled(&server).await;
    let answer = evaluate(&server, request(&server, failed_logins(10))).await.expect("an answer");
    assert!(answer.complete && answer.activity_count > 1_800, "two pages");
    assert_eq!(answer.samples, []);
    for rule in &answer.rules {
        assert_eq!(rule.current, rule.changed, "{}", rule.rule_id);
        let of = |operator: &str| {
            format!(
                "SELECT count(*) FROM security_alerts WHERE rule_id = '{}' AND suppression {operator} 0",
                rule.rule_id
            )
        };
        let current = rule.current.expect("counts");
        assert_eq!(server.db.count(&of("=")).await, i64::from(current.raised), "{}", rule.rule_id);
        assert_eq!(
            server.db.count(&of("<>")).await,
            i64::from(current.suppressed),
            "{}",
            rule.rule_id
        );
    }
    assert_eq!(counts(&answer, "failed_logins_network").0, (1, 0));
    assert_eq!(counts(&answer, "rapid_creation").0, (1, 0));
    assert_eq!(counts(&answer, "new_country").0, (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_warm_up_teaches_and_who_was_seen_long_ago_is_not_learnt_anew() {
    let server = watching().await;
    let create = async |country: &str| {
        let country_code = country.to_owned();
        let place = pb::Location { country_code, ..Default::default() };
        let client = pb::ClientContext { location: Some(place), ..Default::default() };
        let request = pb::CreateSessionRequest { client: Some(client), ..new_session("ada") };
        server.try_create(request).await.expect("a session");
    };
    create("DE").await;
    server.advance(Duration::days(20));
    create("DE").await;
    server.advance(Duration::days(3));
    create("FR").await;
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await.len(), 1);
    let with = |warm_up: Duration| pb::EvaluateRulesRequest {
        warm_up: length(warm_up),
        ..request(&server, failed_logins(9))
    };
    let answer = evaluate(&server, with(Duration::days(7))).await.expect("an answer");
    assert_eq!(counts(&answer, "new_country").0, (1, 0));
    let answer = evaluate(&server, with(Duration::zero())).await.expect("an answer");
    assert_eq!(counts(&answer, "new_country").0, (0, 0), "the first that is seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_holds_at_its_edge() {
    let server = watching().await;
    let wrong = pb::EvaluateRulesRequest {
        tenant_id: "a b".to_owned(),
        user_id: "u".repeat(129),
        sample_size: -1,
        warm_up: length(-Duration::seconds(1)),
        detection: Some(failed_logins(101)),
        ..Default::default()
    };
    let refusal = evaluate(&server, wrong).await.expect_err("a refusal");
    let fields = [
        "detection.failed_logins.count",
        "tenant_id",
        "start_time",
        "end_time",
        "warm_up",
        "user_id",
        "sample_size",
    ];
    assert_eq!(violations(&refusal), fields);
    let empty = request(&server, pb::DetectionPolicy::default());
    let refusal = evaluate(&server, empty).await.expect_err("no change");
    assert_eq!(violations(&refusal), ["detection"]);
    let longest = |beyond: i64| {
        let given = request(&server, failed_logins(9));
        let start = given.start_time.expect("a time");
        pb::EvaluateRulesRequest {
            end_time: Some(Timestamp { seconds: start.seconds + 31 * 86_400 + beyond, nanos: 0 }),
            warm_up: length(Duration::days(31) + Duration::seconds(beyond)),
            sample_size: i32::MAX,
            user_id: "u".repeat(128),
            ..given
        }
    };
    evaluate(&server, longest(0)).await.expect("the longest");
    let refusal = evaluate(&server, longest(1)).await.expect_err("longer");
    assert_eq!(violations(&refusal), ["end_time", "warm_up"]);
    let given = request(&server, failed_logins(9));
    let nothing = pb::EvaluateRulesRequest { end_time: given.start_time, ..given };
    let refusal = evaluate(&server, nothing).await.expect_err("no time");
    assert_eq!(violations(&refusal), ["end_time"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_at_once_is_refused_and_the_next_is_not() {
    let server = watching().await;
    fail_logins(&server, 1, 1).await;
    settled(&server).await;
    let mut blocker = server.db.connect().await;
    let lock = blocker.transaction().await.expect("a transaction");
    lock.batch_execute("LOCK TABLE session_activities").await.expect("a lock");
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let (mut alerts, request) = (server.alerts(), request(&server, failed_logins(9)));
            tokio::spawn(async move { alerts.evaluate_rules(request).await })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND query LIKE '%(user_id, occurred_at, activity_id) >%' AND datname = current_database()
        AND pid <> pg_backend_pid()";
    wait::until(async || server.db.count(waiting).await == 2).await;
    let refusal =
        evaluate(&server, request(&server, failed_logins(9))).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "OVERLOADED");
    lock.rollback().await.expect("an end");
    for call in calls {
        // The call may have timed out.
        let _ = call.await.expect("no panic");
    }
    evaluate(&server, request(&server, failed_logins(9))).await.expect("an answer");
}
