//! Calls as no gRPC library would make them: another content type, and streams of health and reflection that state a
//! deadline or send what cannot be read.

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;
use tonic::Status;

use crate::harness::calls::reason;
use crate::harness::start;
use crate::harness::wire::{VALIDATE, message};

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

async fn connect(addr: std::net::SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(addr).await.expect("a connection");
    let (client, connection) = handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// The HTTP status and the trailers, or headers that stand for them. The caller's side stays open if `open`.
async fn call(
    client: &SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    open: bool,
) -> (StatusCode, HeaderMap) {
    let mut request = Request::post(format!("http://sessiond{path}")).header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let mut client = client.clone().ready().await.expect("the connection holds");
    let (answer, mut sender) = client.send_request(request, false).expect("a stream");
    sender.send_data(body.into(), !open).expect("a body");
    let answer = answer.await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = answer.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("a whole answer");
        body.flow_control().release_capacity(chunk.len()).expect("what was read");
    }
    (status, body.trailers().await.expect("an end").unwrap_or(headers))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_content_type_of_grpc_is_taken() {
    let server = start().await;
    let client = connect(server.addr).await;
    for (kind, taken) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/json", false),
        ("", false),
    ] {
        let (status, trailers) =
            call(&client, VALIDATE, &[("content-type", kind)], message(&[]), false).await;
        let expected = if taken { StatusCode::OK } else { StatusCode::UNSUPPORTED_MEDIA_TYPE };
        assert_eq!((status, trailers.contains_key("grpc-status")), (expected, taken), "{kind}");
    }
    let (status, _) = call(&client, VALIDATE, &[], message(&[]), false).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_keep_the_deadline_and_explain_what_they_cannot_read() {
    let server = start().await;
    let client = connect(server.addr).await;
    let grpc = ("content-type", "application/grpc");
    let timely = [grpc, ("grpc-timeout", "100m")];
    for (path, headers, body, open, why) in [
        (WATCH, &timely[..], message(&[]), false, "DEADLINE_EXCEEDED"),
        (REFLECTION, &timely, Vec::new(), true, "DEADLINE_EXCEEDED"),
        (REFLECTION, &[grpc], message(b"\xff\xff"), false, "MESSAGE_UNREADABLE"),
        (WATCH, &[grpc], message(b"\xff\xff"), false, "MESSAGE_UNREADABLE"),
    ] {
        let (status, trailers) = call(&client, path, headers, body, open).await;
        let end = Status::from_header_map(&trailers).expect("a status");
        assert_eq!((status, &*reason(&end)), (StatusCode::OK, why), "{path}: {end:?}");
    }
}
