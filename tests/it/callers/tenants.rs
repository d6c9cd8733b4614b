//! Tenants and audiences: the tenant of a request, and the tokens that a caller may validate.

use sessiond::caller::manage::Grant;
use sessiond::caller::permissions::{Permission, Role};
use sessiond::grpc::pb;
use tonic::Code;

use super::well_formed::{About, NOTHING, of};
use super::{changes, methods, need};
use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::start_with;

/// Methods whose requests have no tenant.
const WITHOUT: [&str; 5] =
    ["RefreshSession", "ValidateSession", "ValidateSessions", "GetJsonWebKeySet", "ListTenants"];

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_is_refused_by_every_method_whether_it_exists_or_not() {
    let server = start_with(authenticated).await;
    let key = server.key("of-a", &grant(Role::Admin, &["a"])).await.text;
    let everywhere = server.key("of-all", &grant(Role::Admin, &["*"])).await.text;
    for tenant_id in ["a", "b"] {
        let new =
            pb::CreateSessionRequest { tenant_id: tenant_id.to_owned(), ..new_session("ada") };
        server.sessions_as(&everywhere).create_session(new).await.expect("a session");
    }
    let before = changes(&server).await;
    let mut tried = 0;
    for method in methods() {
        let (_, name) = method.split_once('/').expect("a method");
        if need(&method) == Permission::Nothing || WITHOUT.contains(&name) {
            continue;
        }
        tried += 1;
        let mut said = Vec::new();
        for tenant in ["b", "default", "no-such-tenant", "a b", "*"] {
            let refused =
                server.call(&method, of(&method, About { tenant, ..NOTHING }), Some(&key)).await;
            let refused = refused.expect_err(&method);
            assert_eq!(refused.code(), Code::PermissionDenied, "{method} {tenant}");
            assert_eq!(reason(&refused), "TENANT_NOT_PERMITTED");
            said.push((refused.message().to_owned(), refused.details().to_vec()));
        }
        assert!(said.iter().all(|one| *one == said[0]), "{method} tells tenants apart");
    }
    assert!(tried > 25, "{tried} methods");
    assert_eq!(changes(&server).await, before);
    for method in methods() {
        for tenant in ["", "a"] {
            let answer =
                server.call(&method, of(&method, About { tenant, ..NOTHING }), Some(&key)).await;
            if let Some(refused) = answer.err().filter(|s| s.code() == Code::PermissionDenied) {
                panic!("{method} {tenant}: {refused:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_tenant_is_for_the_callers_own_or_refused_if_it_has_several() {
    let server = start_with(authenticated).await;
    let one = server.key("one", &grant(Role::Admin, &["a"])).await.text;
    let two = server.key("two", &grant(Role::Admin, &["a", "b"])).await.text;
    let with_default = server.key("three", &grant(Role::Admin, &["a", "default"])).await.text;
    let all = server.key("all", &grant(Role::Admin, &["*"])).await.text;
    for (key, tenant) in [(&one, "a"), (&with_default, "default"), (&all, "default")] {
        let created = server.sessions_as(key).create_session(new_session("ada")).await;
        let session = created.expect("a session").into_inner().session.expect("a session");
        assert_eq!(session.tenant_id, tenant);
    }
    let refused = server.sessions_as(&two).create_session(new_session("ada")).await;
    assert_eq!(violations(&refused.expect_err("a refusal")), ["tenant_id"]);
    let policy = Some(pb::Policy::default());
    let request = pb::UpdatePolicyRequest { policy, ..Default::default() };
    let refused = server.sessions_as(&two).update_policy(request).await;
    assert_eq!(violations(&refused.expect_err("a refusal")), ["policy.tenant_id"]);
    let new = pb::CreateSessionRequest { tenant_id: "b".to_owned(), ..new_session("ada") };
    let created = server.sessions_as(&two).create_session(new).await.expect("a session");
    // A token contains its tenant.
    let target = pb::terminate_session_request::Target::AccessToken(parts(created.get_ref()).1);
    let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
    let ended = server.sessions_as(&two).terminate_session(request).await.expect("an end");
    assert_eq!(ended.into_inner().session.expect("a session").tenant_id, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_audiences_accepts_tokens_that_are_meant_for_one_of_them() {
    let server = start_with(authenticated).await;
    let login = server.key("login", &grant(Role::Login, &["default"])).await.text;
    let audiences = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let shop =
        Grant { audiences: audiences(&["shop", "till"]), ..grant(Role::Gateway, &["default"]) };
    let shop = server.key("shop", &shop).await.text;
    let anybody = server.key("anybody", &grant(Role::Gateway, &["default"])).await.text;
    let token = async |of: &[&str]| {
        let new = pb::CreateSessionRequest { audiences: audiences(of), ..new_session("ada") };
        let created = server.sessions_as(&login).create_session(new).await.expect("a session");
        parts(created.get_ref()).1
    };
    let (own, other) = (token(&["till", "bank"]).await, token(&["bank"]).await);
    let ask = async |key: &str, token: &str, audience: &str| {
        let (access_token, audience) = (token.to_owned(), audience.to_owned());
        let request = pb::ValidateSessionRequest { access_token, audience, ..Default::default() };
        server.sessions_as(key).validate_session(request.clone()).await.map(|answer| {
            let answer = answer.into_inner();
            (answer.outcome(), answer.inactive_reason())
        })
    };
    let active = (pb::Outcome::Active, pb::InactiveReason::Unspecified);
    let wrong = (pb::Outcome::Inactive, pb::InactiveReason::WrongAudience);
    // Twice, the second time from the cache.
    for _ in 0..2 {
        assert_eq!(ask(&shop, &own, "").await.expect("a judgement"), active);
        assert_eq!(ask(&shop, &own, "till").await.expect("a judgement"), active);
        assert_eq!(ask(&shop, &own, "shop").await.expect("a judgement"), wrong);
        assert_eq!(ask(&shop, &other, "").await.expect("a judgement"), wrong);
        let refused = ask(&shop, &own, "bank").await.expect_err("a refusal");
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(reason(&refused), "AUDIENCE_NOT_PERMITTED");
        assert_eq!(ask(&anybody, &other, "").await.expect("a judgement"), active);
        assert_eq!(ask(&anybody, &own, "bank").await.expect("a judgement"), active);
    }
    // The same on a stream, where it is the answer to one request.
    let request = pb::ValidateSessionRequest {
        access_token: own,
        audience: "bank".to_owned(),
        ..Default::default()
    };
    let question =
        pb::ValidateSessionsRequest { correlation_id: "1".to_owned(), request: Some(request) };
    let asked = futures_util::stream::iter([question]);
    let mut answers =
        server.sessions_as(&shop).validate_sessions(asked).await.expect("a stream").into_inner();
    let answer = answers.message().await.expect("an answer").expect("an answer");
    let Some(pb::validate_sessions_response::Result::Failure(failure)) = answer.result else {
        panic!("it was judged");
    };
    assert_eq!(failure.reason, "AUDIENCE_NOT_PERMITTED");
}
