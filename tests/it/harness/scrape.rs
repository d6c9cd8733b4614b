//! Metrics, as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sessiond::server::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{TestServer, wait};

/// Enables the metrics port of a server.
pub fn with_port(settings: &mut Settings) {
    settings.http_listen = Some("127.0.0.1:0".parse().expect("an address"));
}

/// The status, the head and the body of an answer.
pub async fn request(addr: SocketAddr, head: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let text = format!("{head}\r\nHost: sessiond\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_lowercase(), body.to_owned())
}

pub async fn get(server: &TestServer, path: &str) -> (u16, String, String) {
    request(server.http.expect("a port"), &format!("GET {path} HTTP/1.1")).await
}

/// All series with their values.
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

/// The series of calls to a method that ended with this code.
pub fn calls(method: &str, code: &str) -> String {
    format!("sessiond_grpc_calls_total{{code=\"{code}\",method=\"{method}\"}}")
}

/// Waits until a series has this value.
pub async fn until(server: &TestServer, name: &str, value: f64) {
    wait::until(async || scrape(server).await[name] == value).await;
}

/// Waits until only the test's own client is connected, and no call is in progress.
pub async fn until_calm(server: &TestServer) {
    wait::until(async || {
        let found = scrape(server).await;
        found["sessiond_connections"] <= 1.0 && found["sessiond_requests_in_progress"] == 0.0
    })
    .await;
}
