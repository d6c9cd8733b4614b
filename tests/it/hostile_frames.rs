//! Attacks with HTTP/2 frames: each ends its own connection, and affects no other.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::harness::bystander::Bystander;
use crate::harness::pki::{Authority, Files, client_config, connect};
use crate::harness::scrape::{calls, scrape, until_calm, with_port};
use crate::harness::wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS,
    PING, RST_STREAM, SETTINGS, VALIDATE, WINDOW_UPDATE, Wire, call, message,
};
use crate::harness::{TestServer, start_with};
use crate::hostile_peers::{LONG, SHORT};

/// Sends `attack` until the server has enough; it must send GOAWAY and close the connection.
async fn is_stopped(server: &TestServer, attack: impl Iterator<Item = Vec<u8>>) -> Vec<Frame> {
    let mut wire = Wire::open(server.addr).await;
    wire.until(SETTINGS).await;
    wire.send(SETTINGS, ACK, 0, &[]).await;
    for bytes in attack {
        if !wire.write(&bytes).await {
            break;
        }
    }
    wire.until_closed().await
}

/// The code of the GOAWAY among these frames.
fn reason(frames: &[Frame]) -> Option<u32> {
    frames.iter().rev().find(|frame| frame.kind == GOAWAY).map(Frame::code)
}

fn begin(stream: u32) -> Vec<u8> {
    Frame::new(HEADERS, END_HEADERS, stream, &call(VALIDATE, &[])).bytes()
}

fn reset(stream: u32) -> Vec<u8> {
    Frame::new(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_are_stopped() {
    let server = start_with(with_port).await;
    let bystander = Bystander::before(&server).await;
    // In one write, so that no call starts before its reset arrives.
    let attack: Vec<u8> =
        (0..4_000).flat_map(|n| [begin(2 * n + 1), reset(2 * n + 1)].concat()).collect();
    let frames = is_stopped(&server, std::iter::once(attack)).await;
    assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM));
    bystander.leave().await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_that_the_server_is_provoked_to_are_stopped() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.max_error_resets = 100;
    })
    .await;
    let bystander = Bystander::before(&server).await;
    // A window that grows too large is an error of its stream (RFC 9113, section 6.9.1).
    let provoke = |n: u32| {
        let most = 0x7fff_ffff_u32.to_be_bytes();
        [begin(2 * n + 1), Frame::new(WINDOW_UPDATE, 0, 2 * n + 1, &most).bytes()].concat()
    };
    let frames = is_stopped(&server, (0..4_000).map(provoke)).await;
    let resets = frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert!(resets <= 101, "{resets}");
    assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM));
    bystander.leave().await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_an_end_are_stopped() {
    let server = start_with(with_port).await;
    let bystander = Bystander::before(&server).await;
    let begin = Frame::new(HEADERS, 0, 1, &call(VALIDATE, &[])).bytes();
    // Small frames, of which many fit into the limit of headers, and empty ones.
    for more in [&b"\x00\x01a\x01b"[..], b""] {
        let more = Frame::new(CONTINUATION, 0, 1, more).bytes();
        let attack = std::iter::once(begin.clone()).chain(std::iter::repeat_n(more, 100_000));
        let frames = is_stopped(&server, attack).await;
        assert!(frames.iter().all(|frame| frame.kind != HEADERS), "it was never a call");
        assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM));
    }
    bystander.leave().await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_data_without_an_end_is_stopped() {
    let server = start_with(with_port).await;
    let bystander = Bystander::before(&server).await;
    let empty = Frame::new(DATA, 0, 1, b"").bytes().repeat(100);
    let attack = std::iter::once(begin(1)).chain(std::iter::repeat_n(empty, 10_000));
    let frames = is_stopped(&server, attack).await;
    assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM));
    bystander.leave().await;
    until_calm(&server).await;
}

/// Sends requests on and on, and reads no answer.
async fn is_cut_off(mut wire: Wire<impl AsyncRead + AsyncWrite + Unpin>) {
    let settings = Frame::new(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).bytes();
    let ping = Frame::new(PING, 0, 0, &[7; 8]).bytes();
    let flood = [settings, ping].concat().repeat(1_000);
    let flooding = async { while wire.write(&flood).await {} };
    timeout(LONG, flooding).await.expect("the server closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_no_answers_is_disconnected() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.keepalive_timeout = SHORT;
    })
    .await;
    let bystander = Bystander::before(&server).await;
    is_cut_off(Wire::open(server.addr).await).await;
    bystander.leave().await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_no_answers_is_disconnected_over_tls_too() {
    let authority = Authority::new("server");
    let files = Files::new(&authority.server(), None);
    let server = start_with(|settings| {
        with_port(settings);
        settings.tls = Some(files.settings(false));
        settings.edge.keepalive_timeout = SHORT;
    })
    .await;
    let config = client_config(&[&authority], None, &[&rustls::version::TLS13]);
    let stream = connect(server.addr, config).await.expect("TLS");
    is_cut_off(Wire::over(stream).await).await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_never_reach_a_handler() {
    let server = start_with(with_port).await;
    let bystander = Bystander::before(&server).await;
    let known = calls("sessiond.v1.SessionService/CreateSession", "OK");
    let before = scrape(&server).await[&known];
    let request = message(b"\x12\x03ada\x1a\x03web");
    for path in [
        "sessiond.v1.SessionService/CreateSession",
        "//sessiond.v1.SessionService/CreateSession",
        "/sessiond.v1.SessionService//CreateSession",
        "/sessiond.v1.SessionService/CreateSession/",
        "/sessiond.v1.SessionService/./CreateSession",
        "/x/../sessiond.v1.SessionService/CreateSession",
        "/sessiond.v1.SessionService%2FCreateSession",
        "/sessiond.v1.SessionService/Create%53ession",
        "/%73ession.v1.SessionService/CreateSession",
        "/sessiond.v1.sessionservice/CreateSession",
        "/sessiond.v1.SessionService/createSession",
        "/sessiond.v1.SessionService/CreateSession;x=1",
        "/sessiond.v1.SessionService\\CreateSession",
        "/SESSION.V1.SESSIONSERVICE/CREATESESSION",
        "http://sessiond/sessiond.v1.SessionService/CreateSession",
        "*",
        "",
        "/",
    ] {
        let mut wire = Wire::open(server.addr).await;
        wire.send(HEADERS, END_HEADERS, 1, &call(path, &[])).await;
        wire.send(DATA, END_STREAM, 1, &request).await;
        // The connection sends GOAWAY once more, so that the server closes it.
        wire.send(GOAWAY, 0, 0, &[0; 8]).await;
        let frames = wire.until_closed().await;
        let data = frames.iter().any(|frame| frame.kind == DATA);
        assert!(!data, "{path:?} was answered: {frames:?}");
    }
    assert_eq!(scrape(&server).await[&known], before);
    assert!(server.list("ada").await.is_empty());
    // The same bytes are a call if the path is right.
    let mut wire = Wire::open(server.addr).await;
    let path = "/sessiond.v1.SessionService/CreateSession";
    wire.send(HEADERS, END_HEADERS, 1, &call(path, &[])).await;
    wire.send(DATA, END_STREAM, 1, &request).await;
    assert_eq!(wire.until(DATA).await.stream, 1);
    assert_eq!(server.list("ada").await.len(), 1);
    drop(wire);
    bystander.leave().await;
    until_calm(&server).await;
}
