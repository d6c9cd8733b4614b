//! Policies that UpdatePolicy refuses, and its answer to valid ones.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{reason, violations};
use crate::harness::policies::{idle, level, masked, set};
use crate::harness::requests::length;
use crate::harness::{TestServer, start};

async fn refused(server: &TestServer, policy: pb::Policy) -> (Vec<String>, String) {
    let status = server.try_update(set(policy)).await.expect_err("a refusal");
    assert_eq!(reason(&status), "INVALID_FIELD");
    (violations(&status), status.message().to_owned())
}

fn preset(tenant: &str, preset: pb::PolicyPreset) -> pb::Policy {
    pb::Policy { preset: preset.into(), ..level(tenant) }
}

fn absolute(tenant: &str, client: &str, absolute: Duration) -> pb::Policy {
    let client_id = client.to_owned();
    pb::Policy { client_id, absolute_timeout: length(absolute), ..level(tenant) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_value_is_named_at_once() {
    let server = start().await;
    let bit = Duration::microseconds(1);
    let limit = |max, strategy| Some(pb::SessionLimit { max, strategy });
    let of_type = |device_type, max| pb::DeviceTypeLimit { device_type, max, strategy: 9 };
    let bad = pb::Policy {
        tenant_id: "a b".to_owned(),
        client_id: "\u{7}".to_owned(),
        preset: 4,
        idle_timeout: length(Duration::days(365) + bit),
        absolute_timeout: length(Duration::zero()),
        access_token_ttl: length(Duration::hours(24) + bit),
        refresh_grace: length(Duration::minutes(5) + bit),
        lost_response_window: length(Duration::hours(24) + bit),
        user_limit: limit(10_001, 0),
        client_limit: limit(0, 6),
        device_type_limits: vec![of_type(0, 1), of_type(5, 10_001), of_type(5, 0)],
        acr_levels: vec!["a".to_owned(); 2],
        ..Default::default()
    };
    let (fields, _) = refused(&server, bad).await;
    let expected = [
        "tenant_id",
        "client_id",
        "idle_timeout",
        "absolute_timeout",
        "access_token_ttl",
        "refresh_grace",
        "lost_response_window",
        "preset",
        "user_limit.max",
        "client_limit.strategy",
        "device_type_limits[0].strategy",
        "device_type_limits[0].device_type",
        "device_type_limits[1].max",
        "device_type_limits[1].strategy",
        "device_type_limits[2].strategy",
        "device_type_limits[2].device_type",
        "acr_levels[1]",
    ];
    assert_eq!(fields, expected.map(|field| format!("policy.{field}")));
    let status =
        server.try_update(pb::UpdatePolicyRequest::default()).await.expect_err("no policy");
    assert_eq!(violations(&status), ["policy"]);
    let mask = Some(prost_types::FieldMask { paths: vec!["x".to_owned()] });
    let bare = pb::UpdatePolicyRequest { update_mask: mask, ..Default::default() };
    let status = server.try_update(bare).await.expect_err("no policy");
    assert_eq!(violations(&status), ["update_mask", "policy"]);
    let status = server.try_policy("a b", &"c".repeat(129), false).await.expect_err("a refusal");
    assert_eq!(violations(&status), ["tenant_id", "client_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_between_values_hold_across_levels() {
    let server = start().await;
    server.update(absolute("acme", "", Duration::minutes(30))).await;
    let applies = server.effective("acme", "app").await.policy.expect("a policy");
    assert_eq!(applies.idle_timeout, length(Duration::minutes(30)), "inherited, so cut");
    let own = pb::Policy {
        client_id: "app".to_owned(),
        ..idle("acme", Duration::minutes(30) + Duration::microseconds(1))
    };
    let (fields, message) = refused(&server, own).await;
    assert_eq!(fields, ["policy.idle_timeout"]);
    assert!(message.contains("1800s"), "{message}");
    let grace = pb::Policy {
        refresh_grace: length(Duration::seconds(11)),
        lost_response_window: length(Duration::seconds(10)),
        ..level("acme")
    };
    assert_eq!(refused(&server, grace).await.0, ["policy.refresh_grace"]);
    let ttl = pb::Policy {
        access_token_ttl: length(Duration::minutes(10) + Duration::seconds(1)),
        ..idle("acme", Duration::minutes(10))
    };
    let (fields, message) = refused(&server, ttl).await;
    assert_eq!(fields, ["policy.access_token_ttl"]);
    assert!(message.contains("600s"), "{message}");
    server.update(idle("acme", Duration::minutes(2))).await;
    let applies = server.effective("acme", "app").await.policy.expect("a policy");
    assert_eq!(applies.access_token_ttl, length(Duration::minutes(2)), "inherited, so cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_preset_must_not_exceed_is_refused_and_what_it_should_not_is_said() {
    let server = start().await;
    let twelve = Duration::hours(12);
    let more = twelve + Duration::seconds(1);
    let above =
        pb::Policy { absolute_timeout: length(more), ..preset("acme", pb::PolicyPreset::Aal3) };
    let (fields, message) = refused(&server, above).await;
    assert_eq!(fields, ["policy.absolute_timeout"]);
    assert!(
        message.contains("43200s") && message.contains("800-63B-4, section 2.3.3"),
        "{message}"
    );

    // Under the preset of its tenant, and the other way round.
    server.update(preset("acme", pb::PolicyPreset::Aal3)).await;
    let (fields, _) = refused(&server, absolute("acme", "app", more)).await;
    assert_eq!(fields, ["policy.absolute_timeout"]);
    server.update(absolute("acme", "app", twelve)).await;
    server.update(absolute("", "app", more)).await;
    let (fields, message) = refused(&server, preset("", pb::PolicyPreset::Aal3)).await;
    assert_eq!(fields, ["policy.preset"]);
    assert!(message.contains("`app`"), "{message}");

    let recommended = pb::Policy {
        idle_timeout: length(Duration::hours(2)),
        ..preset("initech", pb::PolicyPreset::Aal2)
    };
    let advice = server.update(recommended).await.advice;
    assert_eq!(advice.len(), 1);
    assert!(advice[0].starts_with("idle_timeout should be at most 3600s at AAL2"), "{advice:?}");
    assert_eq!(server.effective("initech", "app").await.advice, advice);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_refuses_what_a_change_would() {
    let server = start().await;
    let dry = |request| pb::UpdatePolicyRequest { dry_run: true, ..request };
    let above = pb::Policy {
        absolute_timeout: length(Duration::hours(13)),
        ..preset("acme", pb::PolicyPreset::Aal3)
    };
    let status = server.try_update(dry(set(above))).await.expect_err("a refusal");
    assert_eq!(violations(&status), ["policy.absolute_timeout"]);
    let stale = pb::Policy { etag: "7".to_owned(), ..preset("acme", pb::PolicyPreset::Aal3) };
    let status = server.try_update(dry(set(stale))).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::Aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_changes_a_level_once() {
    let server = start().await;
    let request = pb::UpdatePolicyRequest {
        request_id: server.ids(1).remove(0),
        ..set(idle("acme", Duration::minutes(5)))
    };
    let first = server.try_update(request.clone()).await.expect("a change");
    let again = server.try_update(request.clone()).await.expect("the same");
    assert_eq!(again.policy, first.policy);
    server.update(idle("acme", Duration::minutes(6))).await;
    let later = server.try_update(request.clone()).await.expect("no change any more");
    assert_eq!(later.policy.expect("a level").idle_timeout, length(Duration::minutes(6)));
    assert_eq!(server.activities(11).await, 2);

    let other = pb::UpdatePolicyRequest {
        request_id: request.request_id,
        ..masked(level("acme"), &["idle_timeout"])
    };
    let status = server.try_update(other).await.expect_err("another body");
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
}
