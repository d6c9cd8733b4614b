//! ListTenants, ListUsers, ListPolicies and ListRules: their contents and paging.

use chrono::Duration;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use tonic::{Code, Status};

use crate::alert_raise::report;
use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, reason, violations};
use crate::harness::policies::{idle, set};
use crate::harness::{TestServer, start, start_with, wait};

async fn create_in(server: &TestServer, tenant: &str, user: &str) {
    let tenant_id = tenant.to_owned();
    let request = pb::CreateSessionRequest { tenant_id, ..new_session(user) };
    server.try_create(request).await.expect("a session");
}

async fn tenants(server: &TestServer, size: i32) -> Vec<pb::TenantSummary> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListTenantsRequest { page_size: size, page_token };
        let page = server.sessions().list_tenants(request).await.expect("a page").into_inner();
        assert!(size == 0 || page.tenants.len() <= size as usize);
        all.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn users(server: &TestServer, tenant: &str, size: i32) -> Vec<pb::UserSummary> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let tenant_id = tenant.to_owned();
        let request = pb::ListUsersRequest { tenant_id, page_size: size, page_token };
        let page = server.sessions().list_users(request).await.expect("a page").into_inner();
        assert!(size == 0 || page.users.len() <= size as usize);
        all.extend(page.users);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

fn names(tenants: &[pb::TenantSummary]) -> Vec<&str> {
    tenants.iter().map(|tenant| tenant.tenant_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_those_with_sessions_alerts_or_a_policy() {
    let server = start().await;
    assert_eq!(tenants(&server, 0).await, []);
    for (tenant, user) in [("b", "ada"), ("b", "bob"), ("d", "ada"), ("default", "ada")] {
        create_in(&server, tenant, user).await;
    }
    server.update(idle("a", Duration::minutes(5))).await;
    server
        .update(pb::Policy { client_id: "app".to_owned(), ..idle("c", Duration::minutes(5)) })
        .await;
    server.raise(report("ada")).await.expect("an alert");
    let all = ["a", "b", "c", "d", "default"];
    wait::until(async || names(&tenants(&server, 0).await) == all).await;
    for size in [1, 2, 5] {
        assert_eq!(names(&tenants(&server, size).await), all, "{size}");
    }
    let counted = async || {
        let found = tenants(&server, 0).await;
        let figures = |t: &pb::TenantSummary| (t.active_session_count, t.open_alert_count);
        found.iter().map(figures).collect::<Vec<_>>()
    };
    wait::until(async || counted().await == [(0, 0), (2, 0), (0, 0), (1, 0), (1, 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_sees_its_own_tenants_only() {
    let server = start_with(authenticated).await;
    let admin = server.key("admin", &grant(Role::Admin, &["*"])).await.text;
    for tenant in ["a", "b", "c"] {
        let request =
            pb::CreateSessionRequest { tenant_id: tenant.to_owned(), ..new_session("ada") };
        server.sessions_as(&admin).create_session(request).await.expect("a session");
    }
    let two = server.key("two", &grant(Role::Support, &["c", "a", "none"])).await.text;
    let list = async |key: &str, page_size, page_token: &str| {
        let request = pb::ListTenantsRequest { page_size, page_token: page_token.to_owned() };
        let page = server.sessions_as(key).list_tenants(request).await?.into_inner();
        let names = page.tenants.into_iter().map(|tenant| tenant.tenant_id).collect::<Vec<_>>();
        Ok::<_, Status>((names, page.next_page_token))
    };
    let all = async |key: &str| list(key, 0, "").await.expect("a page").0;
    wait::until(async || all(&admin).await == ["a", "b", "c"]).await;
    assert_eq!(all(&two).await, ["a", "c"], "not one of which nothing is known");
    let (first, token) = list(&two, 1, "").await.expect("a page");
    assert_eq!(first, ["a"]);
    assert_eq!(list(&two, 1, &token).await.expect("a page"), (vec!["c".to_owned()], String::new()));
    let gateway = server.key("edge", &grant(Role::Gateway, &["a"])).await.text;
    let refusal = list(&gateway, 0, "").await.expect_err("a refusal");
    assert_eq!(
        (refusal.code(), reason(&refusal).as_str()),
        (Code::PermissionDenied, "CALLER_NOT_PERMITTED")
    );
    for (size, token, field) in [(-1, "", "page_size"), (0, "x", "page_token")] {
        let refusal = list(&two, size, token).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), [field]);
    }
    let foreign = pb::ListUsersRequest { tenant_id: "b".to_owned(), ..Default::default() };
    let refusal = server.sessions_as(&two).list_users(foreign).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "TENANT_NOT_PERMITTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_with_what_there_is_of_them_and_go_when_they_are_erased() {
    let server = start().await;
    for user in ["bob", "ada", "carol", "ada"] {
        create_in(&server, "a", user).await;
    }
    create_in(&server, "b", "dave").await;
    let named = async |size| {
        let users = users(&server, "a", size).await;
        users.into_iter().map(|user| user.user_id).collect::<Vec<_>>()
    };
    wait::until(async || named(0).await == ["ada", "bob", "carol"]).await;
    for size in [1, 2, 3] {
        assert_eq!(named(size).await, ["ada", "bob", "carol"], "{size}");
    }
    wait::until(async || users(&server, "a", 0).await[0].active_session_count == 2).await;
    assert_eq!(users(&server, "a", 0).await[0].device_count, 1);
    let erase = pb::EraseUserRequest {
        tenant_id: "a".to_owned(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    assert!(server.sessions().erase_user(erase).await.expect("an end").into_inner().complete);
    assert_eq!(named(0).await, ["ada", "carol"]);
    assert_eq!(users(&server, "nowhere", 0).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_begin_with_the_tenants_own_level() {
    let server = start().await;
    let of_client = |client: &str| pb::Policy {
        client_id: client.to_owned(),
        ..idle("acme", Duration::minutes(5))
    };
    for client in ["web", "app", "cli"] {
        server.update(of_client(client)).await;
    }
    server.update(idle("other", Duration::minutes(1))).await;
    let list = async |page_size, page_token: &str| {
        let (tenant_id, page_token) = ("acme".to_owned(), page_token.to_owned());
        let request = pb::ListPoliciesRequest { tenant_id, page_size, page_token };
        server.sessions().list_policies(request).await.map(tonic::Response::into_inner)
    };
    let clients = |page: &pb::ListPoliciesResponse| {
        page.policies.iter().map(|policy| policy.client_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(clients(&list(0, "").await.expect("a page")), ["app", "cli", "web"], "none its own");
    server.update(idle("acme", Duration::minutes(9))).await;
    let all = list(0, "").await.expect("a page");
    assert_eq!(clients(&all), ["", "app", "cli", "web"]);
    assert_eq!(all.policies[1], server.policy("acme", "app").await);
    let (mut seen, mut token) = (Vec::new(), String::new());
    for left in [3, 2, 1, 0] {
        let page = list(1, &token).await.expect("a page");
        seen.extend(clients(&page));
        token = page.next_page_token;
        assert_eq!(token.is_empty(), left == 0);
    }
    assert_eq!(seen, ["", "app", "cli", "web"]);
    assert_eq!(violations(&list(-1, "").await.expect_err("a refusal")), ["page_size"]);
    let token = list(1, "").await.expect("a page").next_page_token;
    let request = pb::ListPoliciesRequest { page_token: token, ..Default::default() };
    let refusal = server.sessions().list_policies(request).await.expect_err("of another tenant");
    assert_eq!(reason(&refusal), "PAGE_TOKEN_INVALID");
    let dry = pb::UpdatePolicyRequest { dry_run: true, ..set(of_client("new")) };
    server.try_update(dry).await.expect("a dry run");
    assert_eq!(list(0, "").await.expect("a page").policies.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_in_pages_in_their_order() {
    let server = start().await;
    let list = async |page_size, page_token: &str| {
        let page_token = page_token.to_owned();
        let request = pb::ListRulesRequest { page_size, page_token, ..Default::default() };
        server.alerts().list_rules(request).await.map(tonic::Response::into_inner)
    };
    let all = list(0, "").await.expect("a page");
    assert!(all.rules.len() > 5 && all.next_page_token.is_empty());
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(2, &token).await.expect("a page");
        assert!(page.rules.len() <= 2 && page.counted_since_time.is_some());
        seen.extend(page.rules);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, all.rules);
    assert_eq!(violations(&list(-1, "").await.expect_err("a refusal")), ["page_size"]);
    assert_eq!(reason(&list(0, "x").await.expect_err("a refusal")), "PAGE_TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_are_walked_page_by_page() {
    let server = start().await;
    let ids = ["1".repeat(36), "a".repeat(128), "\u{1F600}".repeat(128)];
    let long = ["t".repeat(64), "u".repeat(64)];
    for tenant in &long {
        for id in &ids {
            let (tenant_id, client_id) = (tenant.clone(), id.clone());
            let request =
                pb::CreateSessionRequest { tenant_id, client_id, ..new_session(id.as_str()) };
            server.try_create(request).await.expect("a session");
            let scope = pb::Policy { client_id: id.clone(), ..idle(tenant, Duration::minutes(5)) };
            server.update(scope).await;
        }
    }
    wait::until(async || names(&tenants(&server, 1).await) == long.each_ref()).await;
    let listed = users(&server, &long[0], 1).await;
    assert_eq!(listed.iter().map(|user| &user.user_id).collect::<Vec<_>>(), Vec::from_iter(&ids));
    let mut request =
        pb::ListPoliciesRequest { tenant_id: long[0].clone(), page_size: 1, ..Default::default() };
    for id in &ids {
        let page = server.sessions().list_policies(request.clone()).await.expect("a page");
        let page = page.into_inner();
        assert_eq!(page.policies.iter().map(|policy| &policy.client_id).collect::<Vec<_>>(), [id]);
        request.page_token = page.next_page_token;
    }
    assert_eq!(request.page_token, "");
}
