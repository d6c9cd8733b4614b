//! The port for operators: metrics, health and keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sessiond::grpc::pb::session as pb;
use sessiond::server::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::calls::parts;
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::{TestServer, clock, start_on, start_with, wait};

fn with_port(settings: &mut Settings) {
    settings.http_listen = Some("127.0.0.1:0".parse().expect("an address"));
}

/// The status, the head and the body of an answer.
async fn request(addr: SocketAddr, head: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let text = format!("{head}\r\nHost: sessiond\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

async fn get(server: &TestServer, path: &str) -> (u16, String, String) {
    request(server.http.expect("a port"), &format!("GET {path} HTTP/1.1")).await
}

/// The series and their values.
pub async fn scrape(server: &TestServer) -> BTreeMap<String, f64> {
    let (status, head, body) = get(server, "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let mut families = BTreeSet::new();
    let mut series = BTreeMap::new();
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let mut words = described.split(' ');
            let (what, name) = (words.next().expect("a word"), words.next().expect("a name"));
            assert!(words.next().is_some_and(|rest| !rest.is_empty()), "{line}");
            assert!(families.insert((what.to_owned(), name.to_owned())), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(name.starts_with("sessiond_"), "{line}");
        let value = value.parse().expect("a number");
        assert_eq!(series.insert(name.to_owned(), value), None, "{line}");
    }
    series
}

fn calls(method: &str, code: &str) -> String {
    format!("sessiond_grpc_calls_total{{code=\"{code}\",method=\"{method}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_method_and_code_and_made_up_names_together() {
    let server = start_with(with_port).await;
    let before = scrape(&server).await;
    let (id, token, _) = parts(&server.create("ada").await);
    for _ in 0..3 {
        server.validate(&token).await;
    }
    server.get("nonsense").await.expect_err("refused");
    server.get(&id).await.expect("a session");
    for path in ["/session.v1.SessionService/Nothing", "/made/up"] {
        let mut client = tonic::client::Grpc::new(server.channel());
        client.ready().await.expect("a connection");
        let path = path.parse().expect("a path");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        client.unary(tonic::Request::new(()), path, codec).await.expect_err("no such method");
    }
    let after = scrape(&server).await;
    let grown = |name: &str| after[name] - before[name];
    let service = "session.v1.SessionService";
    for (method, code, count) in [
        (format!("{service}/CreateSession"), "OK", 1.0),
        (format!("{service}/ValidateSession"), "OK", 3.0),
        (format!("{service}/GetSession"), "OK", 1.0),
        (format!("{service}/GetSession"), "INVALID_ARGUMENT", 1.0),
        ("other".to_owned(), "UNIMPLEMENTED", 2.0),
    ] {
        assert_eq!(grown(&calls(&method, code)), count, "{method} {code}");
    }
    let timed = "sessiond_grpc_call_duration_seconds_count";
    assert_eq!(grown(&format!("{timed}{{method=\"{service}/ValidateSession\"}}")), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_misses_and_the_age_of_the_feed_are_told() {
    let server = start_with(|settings| {
        with_port(settings);
        // On however busy a machine.
        settings.staleness_bound = Duration::from_secs(60);
    })
    .await;
    let (id, token, _) = parts(&server.create("ada").await);
    // It follows the revocations, and what it forgot at the beginning is known again.
    wait::until(async || server.validate(&token).await.watermark != "w0").await;
    server.validate_now(&token).await;
    let before = scrape(&server).await;
    for _ in 0..10 {
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    }
    server.validate_now(&token).await;
    server.terminate(&id).await.expect("ok");
    // It hears of its own revocations as well, and forgets once more.
    wait::until(async || {
        let heard = scrape(&server).await["sessiond_revocations_heard_total"];
        heard > before["sessiond_revocations_heard_total"]
    })
    .await;
    server.validate(&token).await;
    // Its end is known by heart too.
    server.validate(&token).await;
    let after = scrape(&server).await;
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(grown("sessiond_session_cache_hits_total"), 11.0);
    assert_eq!(grown("sessiond_session_cache_misses_total{reason=\"strong\"}"), 1.0);
    assert_eq!(grown("sessiond_session_cache_misses_total{reason=\"cold\"}"), 1.0);
    let age = after["sessiond_revocation_feed_age_seconds"];
    assert!((0.0..20.0).contains(&age), "{age}");
    assert_eq!(after["sessiond_session_cache_entries"], 1.0);
    assert!(after["sessiond_session_cache_bytes"] > 100.0);
    assert!(after["sessiond_database_connections"] >= 1.0);
    assert_eq!(after["sessiond_clock_ahead_of_machine_seconds"], 0.0, "a clock moved by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_while_the_database_answers_and_healthy_as_long_as_it_lives() {
    let (postgres, _dir) = own_cluster().await;
    let server = start_on(Db::of(&postgres), clock(), with_port).await;
    wait::until(async || get(&server, "/readyz").await.0 == 200).await;
    tokio::task::block_in_place(|| postgres.halt());
    wait::until(async || get(&server, "/readyz").await.0 == 503).await;
    assert_eq!(get(&server, "/healthz").await.0, 200);
    server.validate("nonsense").await;
    tokio::task::block_in_place(|| postgres.resume().expect("it comes up"));
    wait::until(async || get(&server, "/readyz").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_those_of_the_rpc_and_may_be_kept() {
    let server = start_with(with_port).await;
    let request_of_keys = pb::GetJsonWebKeySetRequest {};
    let set = server.sessions().get_json_web_key_set(request_of_keys).await.expect("keys");
    let (status, head, body) = get(&server, "/.well-known/jwks.json").await;
    assert_eq!((status, body), (200, set.into_inner().jwks_json));
    assert!(head.contains("content-type: application/jwk-set+json"), "{head}");
    assert!(head.contains("cache-control: public, max-age=300"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an etag");
    // Tags are compared as they are written.
    let (_, head, _) = get(&server, "/.well-known/jwks.json").await;
    assert!(head.contains(etag));
    for (asked, expected) in [
        ("GET /nothing HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0", 405),
        ("DELETE /.well-known/jwks.json HTTP/1.1", 405),
    ] {
        assert_eq!(request(server.http.expect("a port"), asked).await.0, expected, "{asked}");
    }
}
