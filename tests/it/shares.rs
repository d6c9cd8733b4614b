//! Shares: what one caller has in progress takes nothing of the others.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::server::Settings;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::TestServer;
use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, parts, reason};
use crate::harness::scrape::{scrape, until, until_calm, with_port};
use crate::harness::{start_with, wait};

fn few(settings: &mut Settings) {
    authenticated(settings);
    with_port(settings);
    settings.edge.shares.max_open_streams_per_principal = 2;
    settings.edge.shares.max_requests_per_principal = 2;
    settings.edge.shares.max_public_requests_per_peer = 3;
}

/// Two principals, and a token.
async fn setting() -> (TestServer, [String; 2], String) {
    let server = start_with(few).await;
    let key = async |name: &str| server.key(name, &grant(Role::Admin, &["*"])).await.text;
    let keys = [key("greedy").await, key("honest").await];
    let created = server.sessions_as(&keys[1]).create_session(new_session("ada")).await;
    let (_, token, _) = parts(&created.expect("a session").into_inner());
    (server, keys, token)
}

async fn validate(server: &TestServer, key: &str, token: &str) {
    let request =
        pb::ValidateSessionRequest { access_token: token.to_owned(), ..Default::default() };
    let judged = server.sessions_as(key).validate_session(request).await.expect("never refused");
    assert_eq!(judged.into_inner().outcome(), pb::Outcome::Active);
}

/// Whose share of what is used up.
fn used_up(refused: &Status) -> (String, String) {
    assert_eq!((refused.code(), &*reason(refused)), (Code::ResourceExhausted, "OVERLOADED"));
    let info = refused.get_details_error_info().expect("a reason");
    (info.metadata["kind"].clone(), info.metadata["share"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_credentials_takes_nothing_of_those_who_have_them() {
    let (server, [_, honest], token) = setting().await;
    let mut watches = Vec::new();
    let refused = loop {
        let mut health = HealthClient::new(server.another_channel().await);
        match health.watch(HealthCheckRequest::default()).await {
            Ok(watch) => watches.push(watch),
            Err(refused) => break refused,
        }
    };
    assert_eq!(watches.len(), 3);
    assert_eq!(used_up(&refused), ("public_stream".to_owned(), "peer".to_owned()));
    validate(&server, &honest, &token).await;
    // Nor of checks, by which load balancers judge.
    let mut health = HealthClient::new(server.channel());
    health.check(HealthCheckRequest::default()).await.expect("room of its own");
    let shed = "sessiond_requests_shed_total{kind=\"public_stream\",share=\"peer\"}";
    assert_eq!(scrape(&server).await[shed], 1.0);
    drop(watches);
    until(&server, "sessiond_requests_in_progress", 0.0).await;
    HealthClient::new(server.channel()).check(HealthCheckRequest::default()).await.expect("room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_uses_up_its_streams_and_calls_is_refused_alone() {
    let (server, [greedy, honest], token) = setting().await;
    let watch = async |key: &str| {
        server.sessions_as(key).watch_sessions(pb::WatchSessionsRequest::default()).await
    };
    // Dropping the sender ends the stream.
    let idle = async |key: &str| {
        let (sender, asked) = tokio::sync::mpsc::channel(1);
        let answers = server.sessions_as(key).validate_sessions(ReceiverStream::new(asked)).await;
        answers.map(|answers| (sender, answers))
    };
    // Watches and streams of validations that ask nothing count alike.
    let held = (watch(&greedy).await.expect("one"), idle(&greedy).await.expect("two"));
    let stream = ("stream".to_owned(), "principal".to_owned());
    assert_eq!(used_up(&watch(&greedy).await.expect_err("a third")), stream);
    assert_eq!(used_up(&idle(&greedy).await.expect_err("a third")), stream);
    drop(watch(&honest).await.expect("of another principal"));
    // Calls have room of their own.
    validate(&server, &greedy, &token).await;
    let lock = server.db.hold("SELECT 1 FROM session_users FOR UPDATE").await;
    let create = async |key: &str| {
        server.sessions_as(key).create_session(new_session("ada")).await.map(drop)
    };
    let creating = join(create(&greedy), create(&greedy));
    let refusing = async {
        wait::until(async || {
            let busy = "sessiond_requests_in_progress";
            scrape(&server).await[busy] - scrape(&server).await["sessiond_streams_open"] >= 2.0
        })
        .await;
        let refused = create(&greedy).await.expect_err("a third");
        assert_eq!(used_up(&refused), ("call".to_owned(), "principal".to_owned()));
        validate(&server, &honest, &token).await;
        drop(lock);
    };
    let ((first, second), ()) = join(creating, refusing).await;
    assert!(first.is_ok() && second.is_ok());
    drop(held);
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_a_stream_counts_like_a_call() {
    let server = start_with(|settings| {
        authenticated(settings);
        settings.rate_limit = 2;
    })
    .await;
    let key = server.key("edge", &grant(Role::Gateway, &["default"])).await.text;
    let questions = (0..20).map(|n| pb::ValidateSessionsRequest {
        correlation_id: n.to_string(),
        request: Some(pb::ValidateSessionRequest {
            access_token: "x".to_owned(),
            ..Default::default()
        }),
    });
    let answers = server.sessions_as(&key).validate_sessions(tokio_stream::iter(questions)).await;
    let mut answers = answers.expect("a stream").into_inner();
    let (mut judged, mut limited) = (0, 0);
    while let Some(answer) = answers.next().await {
        match answer.expect("an answer").result.expect("a result") {
            pb::validate_sessions_response::Result::Response(_) => judged += 1,
            pb::validate_sessions_response::Result::Failure(failure) => {
                assert_eq!(failure.reason, "RATE_LIMITED");
                limited += 1;
            }
        }
    }
    // The stream itself counts too.
    assert!(judged >= 1 && limited > 0 && judged + limited == 20, "{judged} and {limited}");
}

/// The token as if another key had made it: after the version come two bytes of the key's number.
fn with_unknown_key(token: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(&token["rt1_".len()..]).expect("base64url");
    bytes[1..3].copy_from_slice(&77_i16.to_be_bytes());
    format!("rt1_{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_key_makes_only_its_own_refresh_wait() {
    let server = start_with(|settings| settings.staleness_bound = Duration::from_secs(60)).await;
    let (_, _, refresh) = parts(&server.create("ada").await);
    let made_up = with_unknown_key(&refresh);
    let held = server.db.hold("LOCK TABLE signing_keys IN ACCESS EXCLUSIVE MODE").await;
    let waiting = server.refresh(&made_up);
    tokio::pin!(waiting);
    let honest = server.refresh(&refresh);
    tokio::select! {
        refused = &mut waiting => panic!("it needs the keys: {refused:?}"),
        _ = honest => {}
    }
    drop(held);
    let refused = waiting.await.expect_err("no such key");
    assert_eq!(reason(&refused), "REFRESH_TOKEN_INVALID");
}
