//! Old connections and stopping servers: every call that was begun is answered.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use sessiond::grpc::pb;
use tokio::time::timeout;
use tonic::Code;

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts, reason};
use crate::harness::cluster::Db;
use crate::harness::process::{Place, client};
use crate::harness::scrape::{calls as calls_of, scrape, until_calm, with_port};
use crate::harness::wire::{
    END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, NO_ERROR, PING, SETTINGS, VALIDATE, Wire, call,
};
use crate::harness::{start_with, wait};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_gets_goaway_and_has_its_grace() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.connection_age = SHORT;
        settings.edge.connection_grace = SHORT;
    })
    .await;
    let begun = Instant::now();
    let mut wire = Wire::open(server.addr).await;
    // A call that never ends, so that the connection stays open.
    wire.send(HEADERS, END_HEADERS, 1, &call(VALIDATE, &[])).await;
    let goaway = wire.until(GOAWAY).await;
    assert_eq!(goaway.code(), NO_ERROR);
    assert!(begun.elapsed() >= SHORT.mul_f64(0.9), "{:?}", begun.elapsed());
    // A call that begins meanwhile is still answered.
    wire.send(HEADERS, END_HEADERS | END_STREAM, 3, &call("/nothing/here", &[])).await;
    assert_eq!(wire.until(HEADERS).await.stream, 3);
    wire.until_closed().await;
    assert!(begun.elapsed() >= SHORT.mul_f64(1.9), "{:?}", begun.elapsed());
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_that_was_sent_is_lost_when_connections_grow_old() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.connection_age = Duration::from_millis(100);
        settings.edge.connection_grace = Duration::from_secs(5);
    })
    .await;
    let (_, token, _) = parts(&server.create("ada").await);
    let begun = Instant::now();
    let calls = (0..4).map(async |_| {
        let mut served = 0_u32;
        while begun.elapsed() < Duration::from_secs(2) {
            match server.try_validate(&token).await {
                Ok(judged) => assert_eq!(judged.outcome(), pb::Outcome::Active),
                // The client had the call ready when the GOAWAY came, and never sent it: the count below proves that.
                Err(status) => {
                    assert!(status.metadata().is_empty(), "an answer of the server: {status:?}");
                    continue;
                }
            }
            served += 1;
        }
        served
    });
    let served: u32 = join_all(calls).await.into_iter().sum();
    let answered = scrape(&server).await[&calls_of(&VALIDATE[1..], "OK")];
    assert_eq!(f64::from(served), answered, "what was done was answered");
    assert!(served > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_still_writes_when_its_connection_ends_is_not_reset() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.connection_age = SHORT;
    })
    .await;
    let mut wire = Wire::open(server.addr).await;
    wire.until(GOAWAY).await;
    let ping = wire.until(PING).await;
    wire.answer(&ping).await;
    wire.until_closed().await;
    for _ in 0..3 {
        assert!(wire.write(&Frame::new(PING, 0, 0, &[0; 8]).bytes()).await);
    }
    // A connection whose client never closes is closed all the same.
    wait::until(async || scrape(&server).await["sessiond_connections"] == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_answers_pings_stays_open() {
    let server = start_with(|settings| {
        settings.edge.keepalive_interval = SHORT;
        settings.edge.keepalive_timeout = SHORT;
    })
    .await;
    let mut wire = Wire::open(server.addr).await;
    for _ in 0..5 {
        let ping = wire.until(PING).await;
        wire.answer(&ping).await;
    }
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, &call("/nothing/here", &[])).await;
    assert_eq!(wire.until(HEADERS).await.stream, 1);
    // A client that does not answer pings is disconnected.
    wire.until(PING).await;
    let frames = wire.until_closed().await;
    assert!(frames.iter().all(|frame| frame.kind != SETTINGS), "{frames:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_peer_beyond_the_drain() {
    let mut server = start_with(|settings| {
        with_port(settings);
        settings.drain_timeout = SHORT;
        settings.edge.connection_grace = Duration::from_secs(600);
    })
    .await;
    let mut wire = Wire::open(server.addr).await;
    wire.send(HEADERS, END_HEADERS, 1, &call(VALIDATE, &[])).await;
    wait::until(async || scrape(&server).await["sessiond_requests_in_progress"] == 1.0).await;
    let begun = Instant::now();
    server.begin_stop();
    assert_eq!(wire.until(GOAWAY).await.code(), NO_ERROR);
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    wire.until_closed().await;
}

/// Creates sessions, each for a user of its own, until no server listens. Returns how many were created.
async fn create_until_the_end(
    addr: std::net::SocketAddr,
    number: usize,
    stopped: &AtomicBool,
    made: &AtomicUsize,
) {
    let mut client = client(addr).await;
    for n in 0.. {
        match client.create_session(new_session(&format!("user-{number}-{n}"))).await {
            Ok(_) => made.fetch_add(1, Ordering::SeqCst),
            Err(status) => {
                // The connection was refused, or the client never sent the call.
                assert!(stopped.load(Ordering::SeqCst), "{status:?}");
                assert!(status.metadata().is_empty(), "an answer of the server: {status:?}");
                return;
            }
        };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_no_call_and_ends_streams_so_that_they_resume() {
    let db = Db::fresh().await;
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let place = Place::new();
    let mut process = place.spawn(&["--drain-timeout", "20s"], &env);
    let addr = process.addr().await;
    let (stopped, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    // The number of streams that received an event.
    let listening = AtomicUsize::new(0);
    let mut watching = client(addr).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let watch = watching.watch_sessions(created("")).await;
        streams.push(watch.expect("a stream").into_inner());
    }
    let load = join_all((0..8).map(|n| create_until_the_end(addr, n, &stopped, &made)));
    let watched = join_all(streams.into_iter().map(async |mut stream| {
        let (mut cursor, mut received) = (String::new(), HashSet::new());
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    let first = received.is_empty();
                    cursor = take(message, &mut received);
                    listening
                        .fetch_add(usize::from(first && !received.is_empty()), Ordering::SeqCst);
                }
                Ok(None) => panic!("an end without a status"),
                Err(status) => return (status, cursor, received),
            }
        }
    }));
    let stopping = async {
        wait::until(async || {
            made.load(Ordering::SeqCst) > 100 && listening.load(Ordering::SeqCst) == 5
        })
        .await;
        stopped.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        process.signal(Signal::TERM);
        let ended = process.ended().await;
        assert!(ended.status.success(), "{}", ended.err);
        assert!(!ended.err.contains("cut off"), "{}", ended.err);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    };
    let ((), _, ends) = tokio::join!(stopping, load, watched);
    let there = db.count("SELECT count(*) FROM user_sessions").await;
    let made = i64::try_from(made.into_inner()).expect("a number");
    assert_eq!(there, made, "what was done was answered");

    // Another server resumes from each cursor, with every created session and no event twice.
    let mut next = place.spawn(&[], &env);
    let mut client = client(next.addr().await).await;
    for (status, cursor, mut received) in ends {
        assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "STOPPING"));
        let mut stream =
            client.watch_sessions(created(&cursor)).await.expect("it resumes").into_inner();
        while received.len() < usize::try_from(made).expect("a number") {
            let message = timeout(Duration::from_secs(60), stream.message()).await;
            let message = message.expect("all of it, in time").expect("no end");
            take(message.expect("no end"), &mut received);
        }
    }
}

/// Watches created sessions.
fn created(cursor: &str) -> pb::WatchSessionsRequest {
    let kinds = vec![pb::SessionEventKind::Created.into()];
    let filter = Some(pb::SessionEventFilter { kinds, ..Default::default() });
    pb::WatchSessionsRequest { filter, cursor: cursor.to_owned(), ..Default::default() }
}

/// Adds the session of a message, which must be new, to those received; returns the cursor.
fn take(message: pb::WatchSessionsResponse, received: &mut HashSet<String>) -> String {
    if let Some(event) = message.event {
        assert!(received.insert(event.session_id), "received twice");
    }
    message.cursor
}
