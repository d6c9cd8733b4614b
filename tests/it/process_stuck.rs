//! A stop while an external service hangs.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sessiond::clock::Time;
use sessiond::grpc::pb;
use tokio::net::TcpListener;

use crate::harness::MASTER_KEY;
use crate::harness::calls::new_session;
use crate::harness::cluster::Db;
use crate::harness::process::{Place, client};

/// The time of this line of the log.
fn at(log: &str, words: &str) -> Time {
    let line = log
        .lines()
        .find(|line| line.contains(words))
        .unwrap_or_else(|| panic!("no {words:?} in {log}"));
    let line: Value = serde_json::from_str(line).expect("JSON");
    line["timestamp"].as_str().expect("a time").parse().expect("a time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_accepts_and_says_nothing_holds_up_the_end_for_a_second_at_most() {
    // The system accepts its connections, and they are never read.
    let collector = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let flags = ["--otlp-endpoint", &endpoint, "--drain-timeout", "1s", "--log-format", "json"];
    let mut process = place.spawn(&flags, &env);
    let mut client = client(process.addr().await).await;
    client.create_session(new_session("ada")).await.expect("a session");
    // A call that stays open beyond the drain: its request stream never ends.
    let (_open, messages) = tokio::sync::mpsc::channel::<pb::ValidateSessionsRequest>(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let _held = tokio::spawn(async move { client.validate_sessions(messages).await });
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    // The process waited for the traces for their timeout only; before, for the 5 s of the drain.
    let waited = at(&ended.err, "the last traces were not sent") - at(&ended.err, "\"stopped\"");
    assert!(waited.to_std().expect("later") < Duration::from_secs(3), "{waited}");
}
