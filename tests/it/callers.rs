//! Every method, called by every kind of caller, compared with the table of permissions.

mod audit_log;
mod certificates;
mod command_line;
mod foreign;
mod keys;
mod least_knowledge;
mod narrower;
mod operators;
mod own_answers;
mod rate;
mod streams;
mod tenants;
mod well_formed;

use prost::Message;
use prost_types::FileDescriptorSet;
use sessiond::caller::manage::Grant;
use sessiond::caller::permissions::{METHODS, Permission, Role};
use sessiond::grpc::door::methods::DESCRIPTORS;
use sessiond::grpc::pb;
use sessiond::model::caller::scope::{Scope, Scopes};
use tonic::{Code, Status};

use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{metadata, parts, reason};
use crate::harness::{TestServer, start, start_with};
use well_formed::well_formed;

/// Every method that is served, according to the descriptors.
fn methods() -> Vec<String> {
    let sets = DESCRIPTORS.map(|set| FileDescriptorSet::decode(set).expect("a descriptor"));
    let files = sets.iter().flat_map(|set| &set.file);
    let mut names = Vec::new();
    for file in files {
        for service in &file.service {
            let of = |m: &prost_types::MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), m.name())
            };
            names.extend(service.method.iter().map(of));
        }
    }
    names
}

/// The permission of a method in the table.
fn need(method: &str) -> Permission {
    METHODS.iter().find(|(name, _)| *name == method).expect("a row").1
}

/// The refusal of an unauthorized call; `None` if the caller was authorized.
fn denied(answer: Result<Vec<u8>, Status>) -> Option<(Code, String)> {
    let status = answer.err()?;
    // Health and reflection have no `ErrorInfo`.
    if !matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
        return None;
    }
    let reason = reason(&status);
    let about_the_caller =
        ["CALLER_UNAUTHENTICATED", "CALLER_NOT_PERMITTED", "TENANT_NOT_PERMITTED"];
    about_the_caller.contains(&reason.as_str()).then_some((status.code(), reason))
}

/// The number of rows that calls may write.
async fn changes(server: &TestServer) -> i64 {
    let count = "SELECT (SELECT count(*) FROM session_activities) + (SELECT count(*) FROM requests)
        + (SELECT count(*) FROM user_sessions WHERE state <> 1) + (SELECT count(*) FROM policies)";
    server.db.count(count).await
}

/// Whether these scopes permit the request: the empty one, or the well-formed one, which names a user if it must.
fn permits(scopes: Scopes, method: &str, is_empty: bool) -> Option<bool> {
    let need = need(method);
    let general = need.scope()?;
    let names_user = [
        "TerminateSessions",
        "ListDevices",
        "GetDevice",
        "UpdateDevice",
        "RevokeDevice",
        "ForgetDevice",
    ];
    let of_user = !is_empty && names_user.iter().any(|name| method.ends_with(&format!("/{name}")));
    let within = |scope: &Scope| match scope {
        Scope::AccountRead | Scope::AccountWrite => of_user,
        _ => false,
    };
    let narrow = need.narrower().iter().any(|scope| scopes.has(*scope) && within(scope));
    Some(scopes.has(general) || narrow)
}

/// Two requests of a method: an empty one, and a well-formed one.
fn bodies(method: &str) -> [Vec<u8>; 2] {
    [Vec::new(), well_formed(method)]
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_valid_credentials_all_get_the_same_refusal() {
    let server = start_with(authenticated).await;
    let admin = grant(Role::Admin, &["*"]);
    let expired = server.key("expired", &admin).await.text;
    server.advance(chrono::Duration::days(1));
    let revoked = server.key("revoked", &admin).await;
    server.manage().revoke_key(&revoked.id).await.expect("a key to revoke");
    let good = server.key("good", &admin).await.text;
    // Two existing ids with each other's secrets, and a key that was never created.
    let mixed = format!("{}{}", &good[..21], &revoked.text[21..]);
    let unknown = format!("ssk_0123456789abcdef_{}", &good[21..]);
    let longer = format!("{good}A");
    let cut = &good[..good.len() - 1];
    let odd = ["", "ssk_", "x", cut, &longer, &mixed, &unknown, &expired, &revoked.text];
    let before = changes(&server).await;
    let mut said = Vec::new();
    for method in methods() {
        for body in bodies(&method) {
            for key in odd.iter().map(|key| Some(*key)).chain([None]) {
                let answer = server.call(&method, body.clone(), key).await;
                if need(&method) == Permission::Nothing {
                    assert_eq!(denied(answer), None, "{method} {key:?}");
                    continue;
                }
                let status = answer.expect_err(&method);
                assert_eq!(status.code(), Code::Unauthenticated, "{method} {key:?}");
                said.push((status.message().to_owned(), status.details().to_vec()));
            }
        }
    }
    assert!(said.len() > 500, "{} calls", said.len());
    assert!(said.iter().all(|one| *one == said[0]), "a refusal tells more than another");
    assert_eq!(changes(&server).await, before);
    assert_eq!(denied(server.call("grpc.health.v1.Health/Check", Vec::new(), None).await), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_may_call_what_the_table_says_and_nothing_else() {
    let server = start_with(authenticated).await;
    for role in Role::ALL {
        let key = server.key(role.name(), &grant(*role, &["*"])).await.text;
        let (mut passed, before) = (0, changes(&server).await);
        let mut changed = before;
        for method in methods() {
            let Some(scope) = need(&method).scope() else { continue };
            for body in bodies(&method) {
                let may = permits(role.scopes(), &method, body.is_empty()).expect("a scope");
                let answer = server.call(&method, body, Some(&key)).await;
                if may {
                    assert_eq!(denied(answer), None, "{role:?} {method}");
                    passed += 1;
                    changed = changes(&server).await;
                    continue;
                }
                let status = answer.expect_err(&method);
                assert_eq!(status.code(), Code::PermissionDenied, "{role:?} {method}");
                assert_eq!(reason(&status), "CALLER_NOT_PERMITTED");
                assert_eq!(metadata(&status, "scope").as_deref(), Some(scope.name()));
                assert_eq!(changes(&server).await, changed, "{role:?} {method} did something");
            }
        }
        assert!(passed > 0, "{role:?} may do nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_alone_opens_its_methods_only() {
    let server = start_with(authenticated).await;
    for scope in Scope::ALL {
        let grant =
            Grant { scopes: vec![*scope], tenants: vec!["default".to_owned()], ..Grant::default() };
        let key = server.key(scope.name(), &grant).await.text;
        for method in methods() {
            for body in bodies(&method) {
                let may = permits(Scopes::of(&[*scope]), &method, body.is_empty());
                let answer = server.call(&method, body, Some(&key)).await;
                assert_eq!(denied(answer).is_none(), may.unwrap_or(true), "{scope:?} {method}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_callers_may_do_everything_as_anonymous_and_a_key_binds_all_the_same() {
    let server = start().await;
    let gateway = server.key("edge", &grant(Role::Gateway, &["*"])).await.text;
    let mut not_in_order = Vec::new();
    for method in methods() {
        assert_eq!(denied(server.call(&method, Vec::new(), None).await), None, "{method}");
        let answer = server.call(&method, well_formed(&method), None).await;
        let code = answer.as_ref().err().map(Status::code);
        let reflects = method.contains("reflection");
        if !reflects && code == Some(Code::InvalidArgument) {
            not_in_order.push(format!("{method}: {answer:?}"));
        }
        assert_eq!(denied(answer), None, "{method}");
        let Some(may) = permits(Role::Gateway.scopes(), &method, true) else { continue };
        let answer = denied(server.call(&method, Vec::new(), Some(&gateway)).await);
        assert_eq!(answer.is_none(), may, "{method}");
        let answer = denied(server.call(&method, Vec::new(), Some("ssk_")).await);
        assert_eq!(answer.map(|(code, _)| code), Some(Code::Unauthenticated), "{method}");
    }
    assert!(not_in_order.is_empty(), "{not_in_order:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_reach_no_handler() {
    let server = start().await;
    for path in [
        "sessiond.v1.SessionService/getSession",
        "sessiond.v1.SessionService/GetSession/",
        "sessiond.v1.SessionService/%47etSession",
        "/sessiond.v1.SessionService/GetSession",
        "sessiond.v1.SessionService/",
        "sessiond.v1.Sessionservice/GetSession",
        "sessiond.v1.SessionService/GetSession?x=1%20/x",
        "no.such.Service/Method",
    ] {
        let refused = server.call(path, Vec::new(), None).await.expect_err(path);
        // A `?` and what follows is not part of the path, so this path names a method.
        let code = if path.contains('?') { Code::InvalidArgument } else { Code::Unimplemented };
        assert_eq!(refused.code(), code, "{path}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_is_served_where_it_is_wanted_and_health_always() {
    let server = start_with(|settings| {
        authenticated(settings);
        settings.reflection = false;
    });
    let server = server.await;
    for method in methods().into_iter().filter(|method| method.contains("reflection")) {
        let refused = server.call(&method, Vec::new(), None).await.expect_err(&method);
        assert_eq!(refused.code(), Code::Unimplemented, "{method}");
    }
    server.call("grpc.health.v1.Health/Check", Vec::new(), None).await.expect("health is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_bears_the_name_of_the_principal() {
    let server = start_with(authenticated).await;
    let login = server.key("spiffe://example.org/login", &grant(Role::Login, &["default"])).await;
    let support = server.key("support.example.org", &grant(Role::Support, &["default"])).await;
    let new = crate::harness::calls::new_session("ada");
    let created = server.sessions_as(&login.text).create_session(new).await.expect("a session");
    let (session_id, ..) = parts(created.get_ref());
    let target = Some(pb::terminate_session_request::Target::SessionId(session_id));
    let request = pb::TerminateSessionRequest { target, ..Default::default() };
    let ended = server.sessions_as(&support.text).terminate_session(request).await.expect("an end");
    let session = ended.into_inner().session.expect("a session");
    assert_eq!(session.terminated_by, "support.example.org");
    let by = "SELECT count(*) FROM session_activities
        WHERE principal IN ('spiffe://example.org/login', 'support.example.org')";
    assert_eq!(server.db.count(by).await, 2);
}
