//! The detection settings of a tenant: stated, effective, and refused ones.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::detect::{alerts, settled, watching};
use crate::harness::calls::{new_session, reason, violations};
use crate::harness::policies::{level, masked, set};
use crate::harness::requests::length;
use crate::harness::{TestServer, start};

const ALERT: pb::PlainRule = pb::PlainRule { mode: pb::RuleMode::Alert as i32, action: 0 };

fn detection(tenant: &str, detection: pb::DetectionPolicy) -> pb::Policy {
    pb::Policy { detection: Some(detection), ..level(tenant) }
}

fn burst(mode: pb::RuleMode, count: u32) -> Option<pb::BurstRule> {
    Some(pb::BurstRule { mode: mode.into(), count: Some(count), ..Default::default() })
}

async fn stated(server: &TestServer) -> Option<pb::DetectionPolicy> {
    server.policy("", "").await.detection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_set_alone_and_the_rest_stays_as_it_was() {
    let server = start().await;
    let travel = pb::ImpossibleTravelRule {
        mode: pb::RuleMode::Enforce.into(),
        speed_kmh: Some(800),
        accuracy_km: Some(0),
        ..Default::default()
    };
    let both = pb::DetectionPolicy {
        learning_period: length(Duration::zero()),
        trusted_networks: vec!["192.0.2.77/24".to_owned(), "2001:db8::1".to_owned()],
        impossible_travel: Some(travel),
        ..Default::default()
    };
    server.update(detection("", both.clone())).await;
    let networks = ["192.0.2.0/24", "2001:db8::1/128"].map(str::to_owned).to_vec();
    let both = pb::DetectionPolicy { trusted_networks: networks, ..both };
    assert_eq!(stated(&server).await, Some(both.clone()));
    // Sets another rule only.
    let rapid = burst(pb::RuleMode::Off, 3);
    let more = pb::DetectionPolicy { rapid_creation: rapid, ..Default::default() };
    server.update(detection("", more)).await;
    let all = pb::DetectionPolicy { rapid_creation: rapid, ..both };
    assert_eq!(stated(&server).await, Some(all.clone()));
    // Clears one setting, then all.
    let cleared = masked(level(""), &["detection.impossible_travel", "detection.learning_period"]);
    server.try_update(cleared).await.expect("a change");
    let left = pb::DetectionPolicy { impossible_travel: None, learning_period: None, ..all };
    assert_eq!(stated(&server).await, Some(left));
    server.try_update(masked(level(""), &["detection"])).await.expect("a change");
    assert_eq!(stated(&server).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_applies_is_complete_and_says_where_each_value_comes_from() {
    let server = watching().await;
    let stated = pb::DetectionPolicy {
        new_country: Some(pb::NewCountryRule {
            baseline: length(Duration::days(30)),
            ..Default::default()
        }),
        ..Default::default()
    };
    server.update(detection("acme", stated)).await;
    for client in ["", "app"] {
        let answer = server.effective("acme", client).await;
        let applies = answer.policy.expect("a policy").detection.expect("detection");
        let country = applies.new_country.expect("a rule");
        assert_eq!(country.baseline, length(Duration::days(30)));
        assert_eq!(
            (country.mode(), country.action()),
            (pb::RuleMode::Alert, pb::RuleAction::StepUp)
        );
        assert_eq!(applies.session_hijack.expect("a rule").action(), pb::RuleAction::Terminate);
        let refused = applies.refused_tokens.expect("a rule");
        assert_eq!((refused.count, refused.window), (Some(20), length(Duration::minutes(10))));
        let origin = |name: &str| answer.origins[&format!("detection.{name}")];
        assert_eq!(origin("new_country.baseline"), pb::PolicyOrigin::Tenant as i32);
        for name in ["new_country.mode", "learning_period", "impossible_travel.speed_kmh"] {
            assert_eq!(origin(name), pb::PolicyOrigin::BuiltIn as i32, "{name}");
        }
        let named = answer.origins.keys().filter(|name| name.starts_with("detection.")).count();
        assert_eq!(named, 41);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_threshold_holds_its_range_at_both_edges() {
    let server = start().await;
    let day = Duration::days(1);
    let second = Duration::seconds(1);
    let edge = |beyond: bool, low: bool| {
        let number = |min: u32, max: u32| match (low, beyond) {
            (true, false) => Some(min),
            (true, true) => Some(min.wrapping_sub(1)),
            (false, false) => Some(max),
            (false, true) => Some(max + 1),
        };
        let span = |min: Duration, max: Duration| match (low, beyond) {
            (true, false) => length(min),
            (true, true) => length(min - second),
            (false, false) => length(max),
            (false, true) => length(max + second),
        };
        let burst = Some(pb::BurstRule {
            count: number(1, 100),
            window: span(second, day),
            ..Default::default()
        });
        pb::DetectionPolicy {
            learning_period: span(Duration::zero(), day * 365),
            new_country: Some(pb::NewCountryRule {
                baseline: span(day, day * 730),
                ..Default::default()
            }),
            impossible_travel: Some(pb::ImpossibleTravelRule {
                speed_kmh: number(100, 10_000),
                distance_km: number(0, 20_000),
                accuracy_km: number(0, 5_000),
                ..Default::default()
            }),
            failed_logins: burst,
            failed_logins_network: burst,
            rapid_creation: burst,
            refused_tokens: burst,
            limit_conflicts: burst,
            simultaneous_countries: Some(pb::SimultaneousCountriesRule {
                countries: number(2, 32),
                window: span(Duration::hours(2), day * 30),
                ..Default::default()
            }),
            dormant_account: Some(pb::DormantAccountRule {
                silence: span(day, day * 730),
                ..Default::default()
            }),
            // A valid setting beside it.
            session_hijack: Some(ALERT),
            ..Default::default()
        }
    };
    for low in [true, false] {
        server.update(detection("", edge(false, low))).await;
        let request = set(detection("", edge(true, low)));
        let refusal = server.try_update(request).await.expect_err("beyond");
        assert_eq!(violations(&refusal).len(), 1 + 1 + 3 + 5 * 2 + 2 + 1, "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_settings_are_named_and_a_client_level_has_no_detection() {
    let server = start().await;
    let wrong = pb::DetectionPolicy {
        learning_period: length(Duration::milliseconds(1500)),
        trusted_networks: vec!["192.0.2.0/33".to_owned()],
        new_device: Some(pb::PlainRule { mode: 5, action: 3 }),
        session_hijack: Some(ALERT),
        ..Default::default()
    };
    let refusal = server.try_update(set(detection("", wrong))).await.expect_err("a refusal");
    let fields = ["learning_period", "trusted_networks[0]", "new_device.mode", "new_device.action"];
    assert_eq!(violations(&refusal), fields.map(|field| format!("policy.detection.{field}")));
    let networks = |n: u8| pb::DetectionPolicy {
        trusted_networks: (0..n).map(|n| format!("192.0.2.{n}")).collect(),
        ..Default::default()
    };
    server.update(detection("", networks(64))).await;
    let refusal = server.try_update(set(detection("", networks(65)))).await.expect_err("too many");
    assert_eq!(violations(&refusal), ["policy.detection.trusted_networks"]);
    let of_client = pb::Policy { client_id: "app".to_owned(), ..detection("", networks(1)) };
    let refusal = server.try_update(set(of_client)).await.expect_err("a client's");
    assert_eq!(
        (reason(&refusal).as_str(), violations(&refusal)),
        ("INVALID_FIELD", vec!["policy.detection".to_owned()])
    );
    for path in ["detection", "detection.new_device"] {
        let policy = pb::Policy { client_id: "app".to_owned(), ..Default::default() };
        let refusal = server.try_update(masked(policy, &[path])).await.expect_err("a client's");
        assert_eq!(violations(&refusal), ["update_mask"], "{path}");
    }
    // A rule without any setting states nothing.
    let empty =
        pb::DetectionPolicy { new_device: Some(pb::PlainRule::default()), ..Default::default() };
    let refusal =
        server.try_update(set(detection("", empty))).await.expect_err("nothing to change");
    assert_eq!(violations(&refusal), ["update_mask"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_watched_as_it_says_from_the_next_activity_on() {
    let server = watching().await;
    server.create("ada").await;
    settled(&server).await;
    let soon =
        pb::DetectionPolicy { rapid_creation: burst(pb::RuleMode::Alert, 3), ..Default::default() };
    server.update(detection("", soon)).await;
    // The policy need not be applied to running sessions.
    assert_eq!(
        server.db.count("SELECT count(*) FROM policies WHERE apply_at IS NOT NULL").await,
        0
    );
    server.create("ada").await;
    server.create("ada").await;
    settled(&server).await;
    assert_eq!(alerts(&server, "ada").await.len(), 1, "the third");
    let elsewhere = pb::CreateSessionRequest { tenant_id: "acme".to_owned(), ..new_session("bob") };
    for _ in 0..3 {
        server.try_create(elsewhere.clone()).await.expect("a session");
    }
    let shadow = pb::DetectionPolicy {
        rapid_creation: burst(pb::RuleMode::Shadow, 3),
        ..Default::default()
    };
    server.update(detection("", shadow)).await;
    for _ in 0..3 {
        server.create("carol").await;
    }
    settled(&server).await;
    assert_eq!(
        server.db.count("SELECT count(*) FROM security_alerts WHERE suppression = 0").await,
        1
    );
    assert_eq!(
        server.db.count("SELECT count(*) FROM security_alerts WHERE suppression = 1").await,
        1
    );
}
