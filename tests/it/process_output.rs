//! Standard output and standard error that are not read, or are closed.

use std::io::{PipeReader, Read, pipe};
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use rustix::process::Signal;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::process::{Ended, Place, client, outcome};
use crate::harness::wire::{END_HEADERS, END_STREAM, HEADERS, Wire, call};
use crate::harness::{scrape, wait};
use sessiond::grpc::pb;

/// A pipe whose read end is closed.
fn closed() -> Option<Stdio> {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    Some(writer.into())
}

/// A pipe that is not read yet.
fn unread() -> (PipeReader, Option<Stdio>) {
    let (reader, writer) = pipe().expect("a pipe");
    (reader, Some(writer.into()))
}

/// Addresses that were free a moment ago, for a server whose banner cannot be read.
fn free() -> [SocketAddr; 2] {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a port");
    [0, 1].map(bind).map(|listener| listener.local_addr().expect("an address"))
}

fn assert_quiet(ended: &Ended) {
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_reader_of_its_output_goes_on() {
    let (db, place) = (Db::fresh().await, Place::new());
    let [listen, _] = free().map(|addr| addr.to_string());
    let env = [
        ("DATABASE_URL", db.url.as_str()),
        ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str()),
        ("SESSIOND_LISTEN", listen.as_str()),
    ];
    let process = place.spawn_into(&[], &env, closed(), None);
    let mut client = until_served(listen.parse().expect("an address")).await;
    client.create_session(new_session("ada")).await.expect("a session");
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    assert_quiet(&ended);
}

async fn until_served(
    addr: SocketAddr,
) -> pb::session_service_client::SessionServiceClient<Channel> {
    let connect = async || tokio::net::TcpStream::connect(addr).await.is_ok();
    wait::until(connect).await;
    client(addr).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_reader_has_seen_enough_ends_well() {
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let set = ["principal", "set", "web", "--role", "login", "--tenant", "default"];
    let create = ["api-key", "create", "web", "--expires-in", "1d"];
    for flags in [
        &["migrate"][..],
        &set,
        &["principal", "list"],
        &["keys", "generate"],
        &["keys", "list"],
        &["api-key", "list"],
    ] {
        let ended = place.spawn_into(flags, &env, closed(), None).ended().await;
        assert_quiet(&ended);
        assert!(ended.status.success(), "{flags:?}: {}", ended.err);
    }
    // The key is printed only once, so its loss must be an error.
    let lost = place.spawn_into(&create, &env, closed(), None).ended().await;
    lost.assert_refused(&["is lost", "api-key revoke"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let ended = place.spawn_into(&["keys", "list"], &env, Some(full.into()), None).ended().await;
    ended.assert_refused(&["standard output"]);
    let ended = place.spawn_into(&["keys", "nonsense"], &env, None, closed()).ended().await;
    assert!(!ended.status.success());
    let ended = place.spawn_into(
        &["--database-connections", "2"],
        &[("DATABASE_URL", "x")],
        None,
        closed(),
    );
    assert_eq!(ended.ended().await.status.code(), Some(1), "a failure and no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_up_neither_calls_nor_health_nor_the_end() {
    let (db, place) = (Db::fresh().await, Place::new());
    let [listen, http] = free();
    let (listen, own) = (listen.to_string(), http.to_string());
    let env = [
        ("DATABASE_URL", db.url.as_str()),
        ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str()),
        ("SESSIOND_LISTEN", listen.as_str()),
        ("SESSIOND_HTTP_LISTEN", own.as_str()),
        // Some 20 KB a call.
        ("SESSIOND_LOG", "trace"),
    ];
    let (mut reader, writer) = unread();
    let process = place.spawn_into(&[], &env, None, writer);
    let mut client = until_served(listen.parse().expect("an address")).await;
    let created = client.create_session(new_session("ada")).await.expect("a session");
    let (_, access, _) = parts(created.get_ref());
    let dropped = async || {
        let (_, _, body) = scrape::request(http, "GET /metrics HTTP/1.1").await;
        let line =
            body.lines().find_map(|line| line.strip_prefix("sessiond_log_lines_dropped_total "));
        line.expect("counted").parse::<u64>().expect("a number")
    };
    wait::until(async || {
        assert_eq!(outcome(&mut client, &access).await, pb::Outcome::Active);
        dropped().await > 0
    })
    .await;
    let address = Channel::from_shared(format!("http://{listen}")).expect("an address");
    let mut health = HealthClient::new(address.connect().await.expect("it accepts"));
    let request = HealthCheckRequest::default();
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving;
    let status = health.check(request).await.expect("an answer").into_inner().status();
    assert_eq!(status, serving);

    // Once standard error is read again, the log reports the dropped lines.
    let reading = tokio::task::spawn_blocking(move || {
        let (mut text, mut part) = (Vec::new(), vec![0; 1 << 16]);
        while !String::from_utf8_lossy(&text).contains("lines of the log were dropped") {
            let read = reader.read(&mut part).expect("the pipe");
            assert!(read > 0, "it ended");
            text.drain(..text.len().saturating_sub(1_000));
            text.extend_from_slice(&part[..read]);
        }
        reader
    });
    let reader = reading.await.expect("the line");
    // And it is not read again.
    let before = dropped().await;
    wait::until(async || {
        assert_eq!(outcome(&mut client, &access).await, pb::Outcome::Active);
        dropped().await > before
    })
    .await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_reader_is_gone_holds_up_nothing_either() {
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn_into(&["--log", "debug"], &env, None, closed());
    let mut client = client(process.addr().await).await;
    client.create_session(new_session("ada")).await.expect("a session");
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_fill_neither_the_log_nor_its_lines() {
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&[], &env);
    let addr = process.addr().await;
    let begun = std::time::Instant::now();
    let (mut wire, head) = (Wire::open(addr).await, call(&format!("/{}", "p".repeat(8_000)), &[]));
    for n in 0..1_000 {
        wire.send(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head).await;
        while wire.until(HEADERS).await.flags & END_STREAM == 0 {}
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("a while");
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    let refused: Vec<&str> = ended.err.lines().filter(|line| line.contains("refused")).collect();
    assert!((100..=100 * (seconds + 2)).contains(&refused.len()), "{} lines", refused.len());
    for line in refused {
        assert!(line.len() < 500 && line.contains(r#""method":"other""#), "{line}");
    }
}
