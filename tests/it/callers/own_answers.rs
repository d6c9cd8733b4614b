//! An answer belongs to its caller: a request id is its principal's own, and a narrower scope gets only its part.

use std::time::Duration;

use sessiond::caller::manage::Grant;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::model::caller::scope::Scope;
use tonic::Code;

use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, parts, reason};
use crate::harness::policies::{level, masked, set};
use crate::harness::requests::length;
use crate::harness::{TestServer, start_with};

const ID: &str = "0195f8a0-0000-7000-8000-000000000001";

/// The key of a principal with these scopes and nothing else.
async fn scoped(server: &TestServer, name: &str, scopes: &[Scope]) -> String {
    let tenants = vec!["default".to_owned()];
    let grant = Grant { scopes: scopes.to_vec(), tenants, ..Grant::default() };
    server.key(name, &grant).await.text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_its_principals_own_whichever_key_it_shows() {
    let server = start_with(authenticated).await;
    let login = server.key("login", &grant(Role::Login, &["default"])).await.text;
    let portal = scoped(&server, "portal", &[Scope::SessionCreate]).await;
    let day = Duration::from_secs(86_400);
    let next = server.manage().create_key("login", day, None).await.expect("a key");
    server.until_known(&next).await;

    let create = async |key: &str, user: &str| {
        let request = pb::CreateSessionRequest { request_id: ID.to_owned(), ..new_session(user) };
        server.sessions_as(key).create_session(request).await.map(tonic::Response::into_inner)
    };
    let first = create(&login, "ada").await.expect("a session");
    assert_eq!(create(&next.text, "ada").await.expect("the same"), first);

    let other = create(&portal, "ada").await.expect("a session of its own");
    assert_ne!(parts(&other), parts(&first));
    assert_eq!(create(&portal, "ada").await.expect("the same"), other);
    assert_eq!(create(&login, "ada").await.expect("the same"), first);
    // With another body the id is refused; neither caller gets the other's answer.
    for key in [&login, &portal] {
        let refused = create(key, "bob").await.expect_err("another body");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::AlreadyExists, "REQUEST_ID_REUSED")
        );
    }
    let third = scoped(&server, "third", &[Scope::SessionCreate]).await;
    assert_eq!(create(&third, "bob").await.expect("a session").session.expect("it").user_id, "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_principals_request_did_in_steps_is_no_answer() {
    let server = start_with(authenticated).await;
    let admin = server.key("admin", &grant(Role::Admin, &["default"])).await.text;
    let account = server.key("account", &grant(Role::Account, &["default"])).await.text;
    let mut sessions = server.sessions_as(&admin);
    for _ in 0..2 {
        sessions.create_session(new_session("ada")).await.expect("a session");
    }
    let filter = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    let request = pb::TerminateSessionsRequest {
        filter: Some(filter),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    for (key, ended) in [(&admin, 2), (&account, 0), (&admin, 2), (&account, 0)] {
        let done = server.sessions_as(key).terminate_sessions(request.clone()).await.expect("ok");
        let done = done.into_inner();
        assert_eq!(
            (done.terminated_count, done.sample.len()),
            (ended, usize::try_from(ended).expect("few"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_may_set_only_detection_sees_only_detection() {
    let server = start_with(authenticated).await;
    let admin = server.key("admin", &grant(Role::Admin, &["default"])).await.text;
    let tuner = scoped(&server, "tuner", &[Scope::DetectionWrite]).await;
    let reader = scoped(&server, "reader", &[Scope::DetectionWrite, Scope::PolicyRead]).await;
    server.sessions_as(&admin).create_session(new_session("ada")).await.expect("a session");

    let limit = pb::SessionLimit { max: 3, strategy: 1 };
    let of_level = pb::Policy {
        preset: 2,
        idle_timeout: length(chrono::Duration::hours(2)),
        user_limit: Some(limit),
        ..level("")
    };
    server.sessions_as(&admin).update_policy(set(of_level)).await.expect("a change");

    let travel = pb::ImpossibleTravelRule { mode: 2, ..Default::default() };
    let detection = pb::DetectionPolicy { impossible_travel: Some(travel), ..Default::default() };
    let rules = pb::Policy { detection: Some(detection.clone()), ..level("") };
    let update = async |key: &str, dry_run: bool| {
        let request = pb::UpdatePolicyRequest { dry_run, ..set(rules.clone()) };
        server.sessions_as(key).update_policy(request).await.expect("a change").into_inner()
    };
    for dry_run in [true, false] {
        let seen = update(&tuner, dry_run).await;
        let policy = seen.policy.expect("a level");
        assert!(!policy.etag.is_empty());
        let alone = pb::Policy {
            tenant_id: policy.tenant_id.clone(),
            detection: Some(detection.clone()),
            etag: policy.etag.clone(),
            update_time: policy.update_time,
            updated_by: policy.updated_by.clone(),
            ..Default::default()
        };
        assert_eq!(policy, alone);
        assert_eq!((seen.advice.len(), seen.sample.len()), (0, 0));
        for key in [&reader, &admin] {
            let seen = update(key, dry_run).await;
            let policy = seen.policy.expect("a level");
            assert_eq!((policy.preset, policy.user_limit), (2, Some(limit)));
            assert!(!seen.advice.is_empty(), "2 h is longer than the preset recommends");
        }
    }
    // Nor by reading the policy, nor by a mask with more fields.
    let get = pb::GetPolicyRequest::default();
    let refused = server.sessions_as(&tuner).get_policy(get).await.expect_err("no read");
    assert_eq!(reason(&refused), "CALLER_NOT_PERMITTED");
    let list = pb::ListPoliciesRequest::default();
    let refused = server.sessions_as(&tuner).list_policies(list).await.expect_err("no list");
    assert_eq!(reason(&refused), "CALLER_NOT_PERMITTED");
    let more = masked(rules.clone(), &["detection", "user_limit"]);
    let refused = server.sessions_as(&tuner).update_policy(more).await.expect_err("a limit");
    assert_eq!(reason(&refused), "CALLER_NOT_PERMITTED");
}
