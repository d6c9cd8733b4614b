//! Peers that are slow, silent or many: each uses bounded resources for a bounded time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::harness::bystander::Bystander;
use crate::harness::pki::{Authority, Files, channel, client_config, hello};
use crate::harness::scrape::{scrape, until, until_calm, with_port};
use crate::harness::wire::{
    DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PREFACE, SETTINGS, VALIDATE, Wire, call,
};
use crate::harness::{TestServer, start_with, wait};

pub const SHORT: Duration = Duration::from_millis(300);
pub const LONG: Duration = Duration::from_secs(20);

/// Writes these bytes one by one, slowly, until the server closes.
async fn dribble(stream: &mut TcpStream, bytes: &[u8]) {
    let mut ticks = interval(SHORT / 10);
    let writing = async {
        let mut answer = [0; 4_096];
        for byte in bytes.iter().cycle() {
            ticks.tick().await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            // Frames of the server, such as its settings; an empty read means that it closed.
            match stream.try_read(&mut answer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(1..) => {}
                _ => return,
            }
        }
    };
    timeout(LONG, writing).await.expect("the server closes");
}

pub async fn is_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // It may also close by a reset.
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("the server closes");
}

async fn impatient() -> TestServer {
    start_with(|settings| {
        with_port(settings);
        settings.edge.handshake_timeout = SHORT;
        settings.edge.keepalive_interval = SHORT;
        settings.edge.keepalive_timeout = SHORT;
        settings.edge.request_timeout = SHORT;
    })
    .await
}

pub fn failed(reason: &str) -> String {
    format!("sessiond_handshakes_failed_total{{reason=\"{reason}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_nothing_or_little_at_first_is_closed() {
    let server = impatient().await;
    let bystander = Bystander::before(&server).await;
    is_closed(TcpStream::connect(server.addr).await.expect("a connection")).await;
    let mut half = TcpStream::connect(server.addr).await.expect("a connection");
    half.write_all(&PREFACE[..23]).await.expect("written");
    is_closed(half).await;
    let mut slow = TcpStream::connect(server.addr).await.expect("a connection");
    dribble(&mut slow, PREFACE).await;
    assert_eq!(scrape(&server).await[&failed("timeout")], 3.0);
    let mut other = TcpStream::connect(server.addr).await.expect("a connection");
    other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("gRPC"), "{answer}");
    assert_eq!(scrape(&server).await[&failed("protocol")], 1.0);
    bystander.leave().await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_becomes_silent_or_slow_is_closed() {
    let server = impatient().await;
    let bystander = Bystander::before(&server).await;
    // A silent peer, which answers no ping.
    is_closed(Wire::open(server.addr).await.stream).await;
    // Headers that never end: no ping can be answered in between.
    let mut wire = Wire::open(server.addr).await;
    let headers = Frame::new(HEADERS, END_HEADERS, 1, &[0; 16_000]).bytes();
    dribble(&mut wire.stream, &headers).await;
    bystander.leave().await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_takes_too_long_is_given_up_and_the_connection_stays() {
    let server = impatient().await;
    let mut wire = Wire::open(server.addr).await;
    wire.until(SETTINGS).await;
    for stream in [1, 3] {
        wire.send(HEADERS, END_HEADERS, stream, &call(VALIDATE, &[])).await;
        // The start of a message of 100 bytes.
        wire.send(DATA, 0, stream, &[0, 0, 0, 0, 100, 10]).await;
        let answer = wire.until(HEADERS).await;
        assert_eq!((answer.stream, answer.flags & END_STREAM), (stream, END_STREAM));
    }
    let counted = crate::harness::scrape::calls(&VALIDATE[1..], "DEADLINE_EXCEEDED");
    until(&server, &counted, 2.0).await;
    drop(wire);
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_hellos_hold_few_slots_and_keep_no_client_out() {
    let authority = Authority::new("server");
    let files = Files::new(&authority.server(), None);
    let mut server = start_with(|settings| {
        with_port(settings);
        settings.tls = Some(files.settings(false));
        settings.edge.max_handshakes = 10;
        settings.edge.handshake_timeout = Duration::from_secs(60);
    })
    .await;
    let config = client_config(&[&authority], None, &[&rustls::version::TLS13]);
    server.speak_over(channel(server.addr, config.clone()));
    let hello = hello();
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.addr).await.expect("a connection");
        stream.write_all(&hello[..hello.len() / 2]).await.expect("half a hello");
        held.push(stream);
    }
    let given_up = failed("given_up");
    wait::until(async || scrape(&server).await[&given_up] >= 90.0).await;
    // An honest client is served although all slots are taken.
    server.create("ada").await;
    wait::until(async || scrape(&server).await["sessiond_connections"] <= 11.0).await;
    // The oldest of the silent connections were closed.
    is_closed(held.swap_remove(0)).await;
    drop(held);
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_have_their_time() {
    let authority = Authority::new("server");
    let files = Files::new(&authority.server(), None);
    let mut server = start_with(|settings| {
        with_port(settings);
        settings.tls = Some(files.settings(false));
        settings.edge.handshake_timeout = SHORT;
    })
    .await;
    let config = client_config(&[&authority], None, &[&rustls::version::TLS13]);
    server.speak_over(channel(server.addr, config.clone()));
    let hello = hello();
    let mut half = TcpStream::connect(server.addr).await.expect("a connection");
    half.write_all(&hello[..hello.len() / 2]).await.expect("half a hello");
    is_closed(half).await;
    let mut slow = TcpStream::connect(server.addr).await.expect("a connection");
    dribble(&mut slow, &hello).await;
    // The TLS handshake completes, and nothing follows.
    let stream = crate::harness::pki::connect(server.addr, config).await.expect("TLS");
    is_closed(stream.into_inner().0).await;
    assert_eq!(scrape(&server).await[&failed("timeout")], 3.0);
    server.create("ada").await;
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_stay_open_until_they_close() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.max_connections_per_peer = 3_000;
    })
    .await;
    let bystander = Bystander::before(&server).await;
    let mut crowd = Vec::new();
    for _ in 0..2_000 {
        crowd.push(Wire::open(server.addr).await);
    }
    wait::until(async || scrape(&server).await["sessiond_connections"] >= 2_002.0).await;
    bystander.leave().await;
    // Each of the accepted connections can still make a call.
    let last = crowd.last_mut().expect("a crowd");
    last.send(HEADERS, END_HEADERS | END_STREAM, 1, &call("/nothing/here", &[])).await;
    assert_eq!(last.until(HEADERS).await.stream, 1);
    drop(crowd);
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_port_has_its_limits_too() {
    let server = start_with(with_port).await;
    let addr = server.http.expect("a port");
    let mut crowd = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        let mut answer = [0; 512];
        let read = stream.read(&mut answer).await.expect("an answer");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 "));
        crowd.push(stream);
    }
    is_closed(TcpStream::connect(addr).await.expect("a connection")).await;
    drop(crowd.pop());
    let freed = async || {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        matches!(stream.read(&mut [0; 512]).await, Ok(1..))
    };
    wait::until(freed).await;
    crowd.truncate(200);
    let mut half = TcpStream::connect(addr).await.expect("a connection");
    half.write_all(b"GET /healthz HTTP/1.1\r\n").await.expect("written");
    is_closed(half).await;
    let mut long = TcpStream::connect(addr).await.expect("a connection");
    let head = format!("GET /healthz HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(17 << 10));
    long.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    // The server may close before everything is written, which may lose its answer.
    let _ = long.read_to_string(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
