//! Limits on the number and the rate of connections.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::bystander::Bystander;
use crate::harness::pki::{Authority, Files, client_config, connect, hello};
use crate::harness::process::Place;
use crate::harness::scrape::{scrape, until, with_port};
use crate::harness::wire::{
    DATA, END_HEADERS, Frame, GOAWAY, HEADERS, PREFACE, SETTINGS, VALIDATE, Wire, call,
};
use crate::harness::{TestServer, start_with, wait};
use crate::hostile_peers::{LONG, failed, is_closed};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_closed_and_its_place_is_there_again() {
    let server = start_with(|settings| {
        with_port(settings);
        // One of them is the test's own client.
        settings.edge.max_connections = 3;
    })
    .await;
    server.create("ada").await;
    let mut first = busy(Wire::open(server.addr).await).await;
    let second = busy(Wire::open(server.addr).await).await;
    until(&server, "sessiond_requests_in_progress", 2.0).await;
    is_closed(TcpStream::connect(server.addr).await.expect("a connection")).await;
    let refused = "sessiond_connections_refused_total{limit=\"all\"}";
    assert_eq!(scrape(&server).await[refused], 1.0);
    first.send(GOAWAY, 0, 0, &[0; 8]).await;
    first.until_closed().await;
    until(&server, "sessiond_connections", 2.0).await;
    Wire::open(server.addr).await.until(SETTINGS).await;
    drop(second);
}

/// With a call in progress, whose message does not come.
async fn busy(mut wire: Wire) -> Wire {
    wire.until(SETTINGS).await;
    wire.send(HEADERS, END_HEADERS, 1, &call(VALIDATE, &[])).await;
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_crowd_without_credentials_gives_way() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.max_connections = 4;
    })
    .await;
    // The client of the test is authenticated, the crowd is not.
    server.create("ada").await;
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(server.addr).await;
        wire.until(SETTINGS).await;
        crowd.push(wire);
    }
    let mut newcomer = Wire::open(server.addr).await;
    newcomer.until(SETTINGS).await;
    let mut oldest = crowd.remove(0);
    oldest.until_goodbye().await;
    server.create("bob").await;
    assert_eq!(scrape(&server).await["sessiond_connections"], 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_peer_cannot_take_all_connections() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.max_connections_per_peer = 2;
    })
    .await;
    server.create("ada").await;
    let _wire = busy(Wire::open(server.addr).await).await;
    until(&server, "sessiond_requests_in_progress", 1.0).await;
    is_closed(TcpStream::connect(server.addr).await.expect("a connection")).await;
    let refused = "sessiond_connections_refused_total{limit=\"peer\"}";
    assert_eq!(scrape(&server).await[refused], 1.0);
    Wire::open_from([127, 0, 0, 2].into(), server.addr).await.until(SETTINGS).await;
}

/// Whether a new connection gets to HTTP/2; it is then closed.
async fn gets_in(server: &TestServer) -> bool {
    let mut stream = TcpStream::connect(server.addr).await.expect("a connection");
    let settings = Frame::new(SETTINGS, 0, 0, &[]).bytes();
    // The server may close the connection before that.
    let _ = stream.write_all(&[PREFACE, &settings].concat()).await;
    let read = timeout(LONG, stream.read(&mut [0; 9])).await.expect("an answer, or the end");
    matches!(read, Ok(1..))
}

const PACED: &str = "sessiond_connections_refused_total{limit=\"rate\"}";
const BREACHES: &str = "sessiond_connections_breached_total";

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_rate_are_refused_and_existing_ones_stay() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.max_connections_per_peer = 10;
        settings.edge.max_connection_rate_per_peer = 1;
    })
    .await;
    let bystander = Bystander::before(&server).await;
    let mut served = 0;
    while served < 60 && gets_in(&server).await {
        served += 1;
        until(&server, "sessiond_connections", 2.0).await;
    }
    assert!((8..60).contains(&served), "all that it may have at once: {served}");
    let found = scrape(&server).await;
    assert_eq!((found[PACED], found[BREACHES]), (1.0, 0.0));
    bystander.leave().await;
    // A second later another connection is accepted.
    wait::until(async || gets_in(&server).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn breaches_lower_the_connection_rate_of_a_peer() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.max_connections_per_peer = 85;
        settings.edge.max_connection_rate_per_peer = 1;
    })
    .await;
    let bystander = Bystander::before(&server).await;
    // HTTP/1 is a breach, and so is DATA on a stream that is not open (RFC 9113, section 6.1).
    let mut wrong = TcpStream::connect(server.addr).await.expect("a connection");
    wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    is_closed(wrong).await;
    until(&server, BREACHES, 1.0).await;
    let mut wrong = Wire::open(server.addr).await;
    wrong.send(DATA, 0, 0, b"a").await;
    wrong.until_closed().await;
    until(&server, BREACHES, 2.0).await;
    // A GOAWAY of the peer with an error code does not excuse it.
    let mut wrong = Wire::open(server.addr).await;
    let accusation = [[0; 4], 2_u32.to_be_bytes()].concat();
    let accusation = Frame::new(GOAWAY, 0, 0, &accusation).bytes();
    wrong.write(&[accusation, Frame::new(DATA, 0, 0, b"a").bytes()].concat()).await;
    wrong.until_closed().await;
    until(&server, BREACHES, 3.0).await;
    // Of a budget of 85, two are used, and three breaches cost 21 each.
    let mut served = 0;
    while served < 40 && gets_in(&server).await {
        served += 1;
    }
    assert!((20..40).contains(&served), "{served}");
    bystander.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_check_is_no_breach() {
    let server = start_with(with_port).await;
    for _ in 0..3 {
        drop(TcpStream::connect(server.addr).await.expect("a connection"));
    }
    until(&server, &failed("left"), 3.0).await;
    assert_eq!(scrape(&server).await[BREACHES], 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_during_the_tls_handshake_is_no_breach() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = Files::new(&ours.server(), None);
    let server = start_with(|settings| {
        with_port(settings);
        settings.tls = Some(files.settings(false));
    })
    .await;
    let versions = [&rustls::version::TLS13];
    let wary = client_config(&[&other], None, &versions);
    connect(server.addr, wary).await.expect_err("it does not trust us");
    until(&server, &failed("left"), 1.0).await;
    let trusting = client_config(&[&ours], None, &versions);
    drop(connect(server.addr, trusting).await.expect("TLS"));
    until(&server, &failed("left"), 2.0).await;
    let mut half = TcpStream::connect(server.addr).await.expect("a connection");
    half.write_all(&hello()[..50]).await.expect("half a hello");
    drop(half);
    until(&server, &failed("left"), 3.0).await;
    assert_eq!(scrape(&server).await[BREACHES], 0.0);
    // A plain connection to a TLS port is a breach.
    is_closed(Wire::open(server.addr).await.stream).await;
    until(&server, BREACHES, 1.0).await;
    assert_eq!(scrape(&server).await[&failed("tls")], 1.0);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_waits_while_no_descriptor_is_free() {
    let place = Place::new();
    let mut process = place.spawn(&["--database-connections", "2"], &[]);
    let addr = process.addr().await;
    // The process needs some itself, for the database.
    let before = process.leave_descriptors(8);
    let begun = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..16 {
        crowd.push(Wire::open(addr).await);
    }
    let complaints = || process.said().matches("cannot accept connections").count();
    wait::until(async || complaints() >= 6).await;
    // The server retries after 10, 20, 40, 80 and 160 ms.
    assert!(begun.elapsed() >= Duration::from_millis(310), "it spins");
    // When the accepted connections close, the waiting ones are accepted.
    drop(crowd.drain(..8));
    crowd[0].until(SETTINGS).await;
    process.allow_descriptors(before);
    for wire in &mut crowd[1..] {
        wire.until(SETTINGS).await;
    }
}
