//! Refusals before a handler runs: each has its reason, and small trailers.

use std::time::Duration;

use prost::Message;
use sessiond::grpc::pb;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use crate::harness::calls::reason;
use crate::harness::{TestServer, start, start_with};

const GET: &str = "sessiond.v1.SessionService/GetSession";
const STREAM: &str = "sessiond.v1.SessionService/ValidateSessions";

fn assert_refused(refusal: &Status, code: Code, name: &str) {
    assert_eq!((refusal.code(), reason(refusal).as_str()), (code, name), "{refusal:?}");
    assert!(!refusal.message().is_empty());
    // Base64 takes four bytes for three, a percent-encoded character three for one.
    let trailers = refusal.details().len() * 4 / 3 + refusal.message().len() * 3;
    assert!(trailers <= 6 << 10, "{trailers} bytes");
}

async fn refusal(server: &TestServer, method: &str, body: Vec<u8>) -> Status {
    server.call(method, body, None).await.expect_err("a refusal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_has_a_reason() {
    let server = start().await;
    // Truncated, of the wrong type, not UTF-8.
    for body in [vec![10, 200], vec![8, 1], vec![10, 1, 255]] {
        for method in [GET, STREAM] {
            let refused = refusal(&server, method, body.clone()).await;
            assert_refused(&refused, Code::Internal, "MESSAGE_UNREADABLE");
        }
    }
    let mut request = Request::new(pb::GetSessionRequest::default());
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().expect("ASCII"));
    let refused = server.sessions().get_session(request).await.expect_err("compressed");
    assert_refused(&refused, Code::Unimplemented, "MESSAGE_UNREADABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_has_a_reason() {
    let server = start().await;
    let request = pb::GetSessionRequest { user_id: "x".repeat(4 << 20), ..Default::default() };
    let refused = refusal(&server, GET, request.encode_to_vec()).await;
    assert_refused(&refused, Code::OutOfRange, "MESSAGE_TOO_LARGE");
    let question =
        pb::ValidateSessionsRequest { correlation_id: "x".repeat(4 << 20), request: None };
    let refused = refusal(&server, STREAM, question.encode_to_vec()).await;
    assert_refused(&refused, Code::OutOfRange, "MESSAGE_TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_or_service_has_a_reason() {
    let server = start_with(|settings| settings.reflection = false).await;
    for method in [
        "sessiond.v1.SessionService/NoSuchMethod",
        "no.such.Service/Method",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let refused = refusal(&server, method, Vec::new()).await;
        assert_refused(&refused, Code::Unimplemented, "METHOD_UNKNOWN");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_at_its_deadline_has_a_reason() {
    let server = start().await;
    let mut request = Request::new(tokio_stream::pending());
    // Only the server's deadline, since the client's own would end the call first.
    let timeout = Duration::from_millis(50);
    request
        .metadata_mut()
        .insert("grpc-timeout", format!("{}m", timeout.as_millis()).parse().expect("ASCII"));
    let answers = server.sessions().validate_sessions(request).await.expect("a stream");
    let refused = answers.into_inner().next().await.expect("an end").expect_err("a deadline");
    assert_refused(&refused, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}
