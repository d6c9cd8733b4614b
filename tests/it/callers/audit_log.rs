//! Administrative calls in the log of the real binary: each with principal, method, subject and outcome.

use rustix::process::Signal;
use serde_json::Value;
use sessiond::caller::manage::Manage;
use sessiond::caller::permissions::Role;
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::model::caller::operator::Operator;
use sessiond::store::pool::Database;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::harness::callers::{As, Credentials, grant};
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::process::Place;
use crate::harness::requests::NOBODY;
use crate::harness::{MASTER_KEY, wait};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

fn named<T>(request: T, id: &'static str) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-request-id", id.parse().expect("ASCII"));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn administrative_calls_are_logged_with_who_called_and_others_are_not() {
    let db = Db::fresh().await;
    let place = Place::new();
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&["--callers", "authenticated"], &env);
    let addr = format!("http://{}", process.addr().await);
    let channel =
        Channel::from_shared(addr).expect("an address").connect().await.expect("it accepts");
    let as_ = |key: &str| -> SessionServiceClient<As> {
        SessionServiceClient::with_interceptor(channel.clone(), Credentials::of(Some(key)))
    };
    let by = Operator::named("a test").expect("a name");
    let manage = Manage::new(Database::new(&db.url, 2).expect("a URL"), Clock::system(), by);
    let support = grant(Role::Support, &["*"]);
    let support = manage.create_key("support", DAY, Some(&support)).await.expect("a key").text;
    let login = grant(Role::Login, &["default"]);
    let login = manage.create_key("login", DAY, Some(&login)).await.expect("a key").text;
    let mut created = None;
    wait::until(async || {
        created = as_(&login).create_session(new_session("ada")).await.ok();
        created.is_some()
    })
    .await;
    let (session_id, access, refresh) = parts(created.expect("a session").get_ref());

    let get = |tenant: &str, id: &str| pb::GetSessionRequest {
        tenant_id: tenant.to_owned(),
        session_id: id.to_owned(),
        ..Default::default()
    };
    as_(&support).get_session(named(get("", &session_id), "call-1")).await.expect("a session");
    let absent = as_(&support).get_session(named(get("other", NOBODY), "call-2")).await;
    assert_eq!(absent.expect_err("a refusal").code(), Code::NotFound);
    let odd = as_(&support).get_session(named(get("a\u{1b}[31m\n\"b", NOBODY), "call-3")).await;
    assert_eq!(odd.expect_err("a refusal").code(), Code::InvalidArgument);
    let denied = as_(&login).get_session(named(get("", &session_id), "call-4")).await;
    assert_eq!(denied.expect_err("a refusal").code(), Code::PermissionDenied);
    // A call that a narrower scope permits is not administrative.
    let own = pb::GetSessionRequest { user_id: "ada".to_owned(), ..get("", &session_id) };
    as_(&login).get_session(named(own, "call-6")).await.expect("a session");
    let refresh = pb::RefreshSessionRequest { refresh_token: refresh, client: None };
    as_(&login).refresh_session(named(refresh, "call-5")).await.expect("a successor");

    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    let lines = ended.err.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let audited: Vec<Value> = lines.filter(|line| line["target"] == "audit").collect();
    let said: Vec<[&str; 5]> = audited
        .iter()
        .map(|line| {
            ["request_id", "principal", "method", "tenant", "code"]
                .map(|field| line[field].as_str().expect("text"))
        })
        .collect();
    let method = "/sessiond.v1.SessionService/GetSession";
    assert_eq!(
        said,
        [
            ["call-1", "support", method, "default", "Ok"],
            ["call-2", "support", method, "other", "NotFound"],
            ["call-3", "support", method, r#"a\u{1b}[31m\n\"b"#, "InvalidArgument"],
            ["call-4", "login", method, "default", "PermissionDenied"],
        ]
    );
    for secret in [&access, &support[21..].to_owned(), &login[21..].to_owned()] {
        assert!(!ended.err.contains(secret.as_str()), "a secret was logged");
    }
}
