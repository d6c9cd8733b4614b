//! Many validations over one stream: the same answers as single calls, in bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::grpc::pb::validate_session_request::Freshness;
use sessiond::grpc::pb::validate_sessions_response::Result as PbResult;
use sessiond::grpc::validate::AT_ONCE;
use sessiond::server::Settings;
use tonic::{Code, Streaming};

use crate::harness::calls::{parts, reason};
use crate::harness::{TestServer, start, start_with, wait};

fn question(id: &str, token: &str) -> pb::ValidateSessionsRequest {
    let access_token = token.to_owned();
    let request = Some(pb::ValidateSessionRequest { access_token, ..Default::default() });
    pb::ValidateSessionsRequest { correlation_id: id.to_owned(), request }
}

/// A request that reads the database.
fn strong(id: &str, token: &str) -> pb::ValidateSessionsRequest {
    let mut question = question(id, token);
    let request = question.request.as_mut().expect("a request");
    request.freshness = Some(Freshness::Strong(true));
    question
}

async fn ask(
    server: &TestServer,
    questions: impl futures_util::Stream<Item = pb::ValidateSessionsRequest> + Send + 'static,
) -> Streaming<pb::ValidateSessionsResponse> {
    server.sessions().validate_sessions(questions).await.expect("a stream").into_inner()
}

async fn answers(
    mut answers: Streaming<pb::ValidateSessionsResponse>,
) -> BTreeMap<String, PbResult> {
    let mut all = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("an answer");
        let known = all.insert(answer.correlation_id, answer.result.expect("a result"));
        assert!(known.is_none(), "answered once");
    }
    all
}

fn judged(result: &PbResult) -> &pb::ValidateSessionResponse {
    let PbResult::Response(response) = result else { panic!("a failure: {result:?}") };
    response
}

fn failed(result: &PbResult) -> &pb::ValidationFailure {
    let PbResult::Failure(failure) = result else { panic!("a judgement: {result:?}") };
    failure
}

/// Keeps sessions cached, also on a busy machine.
fn long(settings: &mut Settings) {
    settings.staleness_bound = Duration::from_secs(60);
}

/// The token of a cached session.
async fn cached_session(server: &TestServer) -> String {
    let (_, token, _) = parts(&server.create("ada").await);
    // Once the server follows the revocation feed, it evicts nothing without cause.
    wait::until(async || server.validate(&token).await.watermark != "w0").await;
    server.validate_now(&token).await;
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_judges_as_single_calls_do_and_ends_with_the_last_answer() {
    let server = start().await;
    let mut tokens = vec!["nonsense".to_owned()];
    for number in 0..50 {
        let (id, token, _) = parts(&server.create(&format!("user-{number}")).await);
        if number % 5 == 0 {
            server.terminate(&id).await.expect("ok");
        }
        tokens.push(token);
    }
    let questions: Vec<_> =
        (0..2000).map(|n| question(&n.to_string(), &tokens[n % tokens.len()])).collect();
    let all = answers(ask(&server, stream::iter(questions)).await).await;
    assert_eq!(all.len(), 2000);
    for (id, result) in &all {
        let number: usize = id.parse().expect("a number");
        let mut single = server.validate(&tokens[number % tokens.len()]).await;
        let mut streamed = judged(result).clone();
        for answer in [&mut single, &mut streamed] {
            (answer.checked_time, answer.cacheable_until_time) = (None, None);
            answer.watermark.clear();
        }
        assert_eq!(streamed, single);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_request_gets_an_error_answer_and_the_stream_goes_on() {
    let server = start().await;
    let (_, token, _) = parts(&server.create("ada").await);
    let mut wrong = question("wrong", &token);
    let request = wrong.request.as_mut().expect("a request");
    (request.audience, request.required_acr) = ("a b".to_owned(), "\"".to_owned());
    let absent = pb::ValidateSessionsRequest { request: None, ..question("absent", "") };
    let (longest, too_long) = ("x".repeat(128), "x".repeat(129));
    let questions = vec![
        wrong,
        absent,
        question("", &token),
        question(&longest, &token),
        question(&too_long, &token),
        question("right", &token),
    ];
    let all = answers(ask(&server, stream::iter(questions)).await).await;
    for id in ["right", &longest] {
        assert_eq!(judged(&all[id]).outcome(), pb::Outcome::Active);
    }
    for (id, fields) in [
        ("wrong", &["request.audience", "request.required_acr"][..]),
        ("absent", &["request"]),
        ("", &["correlation_id"]),
        (&too_long, &["correlation_id"]),
    ] {
        let failure = failed(&all[id]);
        assert_eq!((failure.code, failure.reason.as_str()), (3, "INVALID_FIELD"));
        let named: Vec<&str> = failure.field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, fields);
        assert_eq!(failure.retry_delay, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_the_database_delays_no_other() {
    let server = start_with(long).await;
    let token = cached_session(&server).await;
    let lock = server.db.hold("LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE").await;
    let (send, questions) = tokio::sync::mpsc::channel(8);
    let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
    let mut answers = ask(&server, questions).await;
    send.send(strong("slow", &token)).await.expect("a stream");
    for number in 0..3 {
        send.send(question(&number.to_string(), &token)).await.expect("a stream");
        let answer = answers.next().await.expect("one").expect("an answer");
        assert_eq!(answer.correlation_id, number.to_string());
        assert_eq!(judged(&answer.result.expect("one")).outcome(), pb::Outcome::Active);
    }
    drop(lock);
    let answer = answers.next().await.expect("one").expect("an answer");
    assert_eq!(answer.correlation_id, "slow");
    drop(send);
    assert!(answers.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_answers_are_not_read_takes_no_more_requests() {
    let server = start().await;
    let (_, token, _) = parts(&server.create("ada").await);
    let sent = Arc::new(AtomicUsize::new(0));
    let (count, asked) = (sent.clone(), token.clone());
    let questions = stream::iter(0..100_000).map(move |number| {
        count.fetch_add(1, Ordering::SeqCst);
        question(&number.to_string(), &asked)
    });
    // On its own connection, whose flow-control window an unread stream fills.
    let own = format!("http://{}", server.addr);
    let mut own = SessionServiceClient::connect(own).await.expect("a connection");
    let unread = own.validate_sessions(questions).await.expect("a stream");
    // Until the stream stalls, other calls are served.
    let mut seen = 0;
    wait::until(async || {
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut seen, now) == now && now > 0
    })
    .await;
    assert!(seen > AT_ONCE && seen < 20_000, "{seen}");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_was_taken_and_then_ends_the_stream() {
    let mut server = start_with(long).await;
    let token = cached_session(&server).await;
    let lock = server.db.hold("LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE").await;
    let (send, questions) = tokio::sync::mpsc::channel(8);
    let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
    let mut answers = ask(&server, questions).await;
    send.send(strong("taken", &token)).await.expect("a stream");
    send.send(question("told", &token)).await.expect("a stream");
    assert_eq!(answers.next().await.expect("one").expect("one").correlation_id, "told");
    server.begin_stop();
    drop(lock);
    let answer = answers.next().await.expect("one").expect("an answer");
    assert_eq!(answer.correlation_id, "taken");
    assert_eq!(judged(&answer.result.expect("one")).outcome(), pb::Outcome::Active);
    let end = answers.next().await.expect("one").expect_err("an end");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unavailable, "STOPPING"));
    server.stop().await;
}
