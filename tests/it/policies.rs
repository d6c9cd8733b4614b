//! GetPolicy and UpdatePolicy: levels, the effective policy, and the timeouts of new sessions.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{new_session, parts, reason, successor, violations};
use crate::harness::policies::{idle, level, masked, set};
use crate::harness::requests::length;
use crate::harness::{TestServer, audit, start};

fn of(tenant: &str, client: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest {
        tenant_id: tenant.to_owned(),
        client_id: client.to_owned(),
        ..new_session("ada")
    }
}

/// Idle and absolute timeout of a new session, in seconds.
async fn timeouts(server: &TestServer, tenant: &str, client: &str) -> (Option<i64>, i64) {
    let created = server.try_create(of(tenant, client)).await.expect("a session");
    let session = created.session.expect("a session");
    let start = session.create_time.expect("a time").seconds;
    let until = |time: Option<prost_types::Timestamp>| time.map(|time| time.seconds - start);
    (until(session.idle_expire_time), until(session.absolute_expire_time).expect("a deadline"))
}

const DAY: i64 = 86_400;

#[tokio::test(flavor = "multi_thread")]
async fn each_value_comes_from_the_nearest_level_that_states_it() {
    use pb::PolicyOrigin::{BuiltIn, Client, ClientPreset, Tenant, TenantPreset};
    let server = start().await;
    let origins = async |tenant: &str, client: &str| {
        let answer = server.effective(tenant, client).await;
        let sessions = answer.origins.keys().filter(|name| !name.starts_with("detection."));
        assert_eq!(sessions.count(), 10);
        let of = |field: &str| pb::PolicyOrigin::try_from(answer.origins[field]).expect("known");
        (of("preset"), of("idle_timeout"), of("absolute_timeout"), of("user_limit"))
    };
    assert_eq!(origins("acme", "app").await, (BuiltIn, BuiltIn, BuiltIn, BuiltIn));
    assert_eq!(timeouts(&server, "acme", "app").await, (Some(3600), DAY));

    server.update(idle("acme", Duration::minutes(30))).await;
    assert_eq!(origins("acme", "app").await, (BuiltIn, Tenant, BuiltIn, BuiltIn));
    assert_eq!(timeouts(&server, "acme", "app").await, (Some(1800), DAY));

    let client = pb::Policy {
        client_id: "app".to_owned(),
        preset: pb::PolicyPreset::Aal3.into(),
        user_limit: Some(pb::SessionLimit { max: 5, strategy: 0 }),
        ..level("acme")
    };
    server.update(client).await;
    assert_eq!(origins("acme", "app").await, (Client, ClientPreset, ClientPreset, Client));
    assert_eq!(timeouts(&server, "acme", "app").await, (Some(900), DAY / 2));
    assert_eq!(timeouts(&server, "acme", "tv").await, (Some(1800), DAY), "another client");
    assert_eq!(timeouts(&server, "", "app").await, (Some(3600), DAY), "another tenant");

    let preset = pb::Policy { preset: pb::PolicyPreset::Aal2.into(), ..level("") };
    server.update(preset).await;
    assert_eq!(origins("default", "app").await, (Tenant, TenantPreset, TenantPreset, BuiltIn));
    let all = server.effective("", "app").await.policy.expect("a policy");
    assert_eq!(all.preset(), pb::PolicyPreset::Aal2);
    assert_eq!(all.idle_timeout, length(Duration::hours(1)));
    assert_eq!(all.user_limit, Some(pb::SessionLimit { max: 0, strategy: 1 }));
    assert_eq!(all.acr_levels, ["aal1", "aal2", "aal3"]);
    assert_eq!(server.activities(11).await, 3);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_says_what_it_states_and_who_changed_it() {
    let server = start().await;
    let empty = server.policy("acme", "").await;
    let unwritten = pb::Policy { etag: empty.etag.clone(), ..level("acme") };
    assert_eq!(empty, unwritten);
    let limit = pb::SessionLimit { max: 3, strategy: pb::LimitStrategy::TerminateOldest.into() };
    let given = pb::Policy {
        preset: pb::PolicyPreset::Aal2.into(),
        idle_timeout: length(Duration::zero()),
        absolute_timeout: length(Duration::milliseconds(1_500)),
        access_token_ttl: length(Duration::seconds(1)),
        refresh_grace: length(Duration::zero()),
        lost_response_window: length(Duration::hours(24)),
        user_limit: Some(limit),
        client_limit: Some(pb::SessionLimit { max: 10_000, strategy: 5 }),
        device_type_limits: vec![pb::DeviceTypeLimit { device_type: 5, max: 0, strategy: 4 }],
        acr_levels: vec!["low".to_owned(), "high".to_owned()],
        ..level("acme")
    };
    let updated = server.update(given.clone()).await;
    let stored = updated.policy.expect("a level");
    assert_eq!(stored.updated_by, "anonymous");
    assert!(stored.update_time.is_some() && stored.etag != empty.etag);
    let (etag, update_time, updated_by) =
        (stored.etag.clone(), stored.update_time, stored.updated_by.clone());
    assert_eq!(stored, pb::Policy { etag, update_time, updated_by, ..given });
    assert_eq!(server.policy("acme", "").await, stored);
    assert_eq!(server.policy("", "").await, level("default").with_etag(&empty.etag));

    let same = server.update(stored.clone()).await.policy.expect("a level");
    assert_eq!(same, stored, "a change of nothing changes nothing");
    assert_eq!(server.activities(11).await, 1);
}

trait WithEtag {
    fn with_etag(self, etag: &str) -> Self;
}

impl WithEtag for pb::Policy {
    fn with_etag(self, etag: &str) -> Self {
        pb::Policy { etag: etag.to_owned(), ..self }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_names_what_changes_and_clears_what_is_not_set() {
    let server = start().await;
    let both = pb::Policy {
        absolute_timeout: length(Duration::hours(2)),
        acr_levels: vec!["one".to_owned()],
        ..idle("acme", Duration::minutes(5))
    };
    server.update(both).await;
    let other = pb::Policy { absolute_timeout: length(Duration::hours(3)), ..level("acme") };
    let masked_away = masked(other, &["idle_timeout", "acr_levels", "acr_levels"]);
    let left = server.try_update(masked_away).await.expect("ok").policy.expect("a level");
    assert_eq!(left.absolute_timeout, length(Duration::hours(2)), "not in the mask");
    assert_eq!((left.idle_timeout, left.acr_levels.len()), (None, 0));

    let unknown = masked(level("acme"), &["idle_timeout", "etag", "policy.preset", ""]);
    let status = server.try_update(unknown).await.expect_err("a refusal");
    assert_eq!(violations(&status), ["update_mask"]);
    let nothing = masked(level("acme"), &[]);
    let status = server.try_update(nothing).await.expect_err("a refusal");
    assert_eq!(violations(&status), ["update_mask"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_guards_a_level_also_one_never_written() {
    let server = start().await;
    let none = server.policy("acme", "app").await.etag;
    let change = |minutes, etag: &str| {
        set(pb::Policy {
            client_id: "app".to_owned(),
            etag: etag.to_owned(),
            ..idle("acme", Duration::minutes(minutes))
        })
    };
    let first = server.try_update(change(1, &none)).await.expect("the etag is right");
    let status = server.try_update(change(2, &none)).await.expect_err("it is not any more");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let etag = first.policy.expect("a level").etag;
    server.try_update(change(2, &etag)).await.expect("the etag is right");
    assert_eq!(server.policy("acme", "app").await.idle_timeout, length(Duration::minutes(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_may_only_shorten_what_applies_to_it() {
    let server = start().await;
    server.update(idle("acme", Duration::minutes(10))).await;
    let ask = |minutes| pb::CreateSessionRequest {
        idle_timeout: length(Duration::minutes(minutes)),
        ..of("acme", "app")
    };
    server.try_create(ask(10)).await.expect("as much as the policy");
    let status = server.try_create(ask(11)).await.expect_err("more");
    assert_eq!(violations(&status), ["idle_timeout"]);
    assert!(status.message().contains("600s"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn access_tokens_live_as_long_as_the_tenant_says() {
    let server = start().await;
    let ttl = |minutes| length(Duration::minutes(minutes));
    server.update(pb::Policy { access_token_ttl: ttl(2), ..level("acme") }).await;
    let created = server.try_create(of("acme", "app")).await.expect("a session");
    let lives = |tokens: &pb::TokenPair| {
        let end = tokens.access_token_expire_time.expect("a time").seconds;
        // Rounded up to whole seconds.
        end - server.clock.now().timestamp() - 1
    };
    assert_eq!(lives(created.tokens.as_ref().expect("tokens")), 120);
    let (.., refresh) = parts(&created);
    server.update(pb::Policy { access_token_ttl: ttl(3), ..level("acme") }).await;
    assert_eq!(lives(&successor(server.refresh(&refresh).await)), 180);
    let other = server.try_create(of("", "app")).await.expect("a session");
    assert_eq!(lives(other.tokens.as_ref().expect("tokens")), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_lowered_counts_at_the_next_create() {
    let server = start().await;
    for _ in 0..3 {
        server.try_create(of("acme", "app")).await.expect("a session");
    }
    let limit = |max| Some(pb::SessionLimit { max, strategy: 0 });
    let done = server.update(pb::Policy { user_limit: limit(2), ..level("acme") }).await;
    assert_eq!(done.terminated_count, 0, "running sessions go on");
    let status = server.try_create(of("acme", "app")).await.expect_err("too many");
    assert_eq!(reason(&status), "SESSION_LIMIT_REACHED");
    server.try_create(of("", "app")).await.expect("another tenant has no limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_gets_its_answer_also_where_the_policy_would_refuse_it_by_now() {
    let server = start().await;
    let asked = pb::CreateSessionRequest {
        tenant_id: "acme".to_owned(),
        idle_timeout: length(Duration::minutes(30)),
        request_id: "5f9b2c1e-3f0a-4c1d-9a57-0c8f7f1f2a11".to_owned(),
        ..new_session("ada")
    };
    let first = server.try_create(asked.clone()).await.expect("a session");
    server.update(idle("acme", Duration::minutes(10))).await;
    let again = server.try_create(asked.clone()).await.expect("the same");
    let id = |created: &pb::CreateSessionResponse| parts(created).0;
    assert_eq!(id(&again), id(&first));
    assert_eq!(parts(&again).2, parts(&first).2, "the same refresh token");
    let other = "5f9b2c1e-3f0a-4c1d-9a57-0c8f7f1f2a12".to_owned();
    let anew = pb::CreateSessionRequest { request_id: other, ..asked };
    let status = server.try_create(anew).await.expect_err("too long by now");
    assert_eq!(violations(&status), ["idle_timeout"]);
}
