//! The real binary with its own data directory, killed and stopped under load.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use rustix::process::{Signal, kill_process, test_kill_process};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::calls::{is_busy, new_session, parts};
use crate::harness::cluster::own_cluster;
use crate::harness::process::{Place, outcome};
use crate::harness::wait;

type Client = SessionServiceClient<Channel>;

/// A session whose creation or last refresh was acknowledged.
struct Acknowledged {
    id: String,
    access: String,
    refresh: String,
}

/// What a failed call does to the load.
#[derive(Clone, Copy, PartialEq)]
enum OnFailure {
    End,
    GoOn,
}

/// Creates and refreshes until stopped, and records what was acknowledged.
async fn load(
    mut client: Client,
    user: String,
    on_failure: OnFailure,
    count: &watch::Sender<usize>,
    stop: &watch::Sender<bool>,
) -> Vec<Acknowledged> {
    let mut made = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !*stop.borrow() {
        pace.tick().await;
        match client.create_session(new_session(&user)).await {
            Ok(created) => {
                let (id, access, refresh) = parts(created.get_ref());
                made.push(Acknowledged { id, access, refresh });
                count.send_modify(|count| *count += 1);
            }
            Err(status) if is_busy(&status) => {}
            Err(_) if on_failure == OnFailure::End => break,
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        let Some(last) = made.last_mut().filter(|_| count.borrow().is_multiple_of(2)) else {
            continue;
        };
        let refresh_token = last.refresh.clone();
        let request = pb::RefreshSessionRequest { refresh_token, client: None };
        if let Ok(refreshed) = client.refresh_session(request).await {
            let tokens = refreshed.into_inner().tokens.expect("tokens");
            (last.access, last.refresh) = (tokens.access_token, tokens.refresh_token);
        }
    }
    made
}

/// Runs the load of eight users, and `breaking` once some calls were acknowledged.
async fn under_load(
    client: &Client,
    on_failure: OnFailure,
    breaking: impl AsyncFnOnce(&watch::Sender<usize>),
) -> Vec<Acknowledged> {
    let (count, stop) = (watch::Sender::new(0), watch::Sender::new(false));
    let users = (0..8).map(|i| format!("user-{i}"));
    let loads = join_all(users.map(|user| load(client.clone(), user, on_failure, &count, &stop)));
    let breaking = async {
        until_more(&count, 40).await;
        breaking(&count).await;
        if on_failure == OnFailure::GoOn {
            stop.send_replace(true);
        }
    };
    join(loads, breaking).await.0.into_iter().flatten().collect()
}

async fn until_more(count: &watch::Sender<usize>, more: usize) {
    let enough = *count.borrow() + more;
    let mut count = count.subscribe();
    let reached = count.wait_for(|count| *count >= enough);
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    reached.expect("more is acknowledged in time").expect("the load runs");
}

/// Asserts that each session exists, and both of its tokens work.
async fn assert_kept(client: &mut Client, acknowledged: &[Acknowledged]) {
    assert!(acknowledged.len() >= 40);
    for session in acknowledged {
        assert_eq!(outcome(client, &session.access).await, pb::Outcome::Active, "{}", session.id);
        let refresh_token = session.refresh.clone();
        let request = pb::RefreshSessionRequest { refresh_token, client: None };
        wait::until(async || match client.refresh_session(request.clone()).await {
            Ok(_) => true,
            Err(status) => {
                assert!(is_busy(&status), "the refresh token works: {status:?}");
                false
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_session_survives_kill_9_of_the_server() {
    let place = Place::new();
    let (process, client) = place.serve().await;
    let acknowledged = under_load(&client, OnFailure::End, async |_| process.signal(Signal::KILL));
    let acknowledged = acknowledged.await;
    assert!(!process.ended().await.status.success());
    let (_process, mut client) = place.serve().await;
    assert_kept(&mut client, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_session_survives_kill_9_of_postgres() {
    let place = Place::new();
    let (process, mut client) = place.serve().await;
    let acknowledged = under_load(&client, OnFailure::GoOn, async |count| {
        let first = place.postgres().expect("it runs");
        kill_process(first, Signal::KILL).expect("our Postgres");
        wait::until(async || place.postgres().is_some_and(|pid| pid != first)).await;
        until_more(count, 40).await;
    });
    let acknowledged = acknowledged.await;
    assert_kept(&mut client, &acknowledged).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_stop_loses_no_accepted_call() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let (process, client) = place.serve().await;
        let mut stopping = None;
        let acknowledged = under_load(&client, OnFailure::End, async |_| {
            stopping = Some(Instant::now());
            process.signal(signal);
        });
        let acknowledged = acknowledged.await;
        let ended = process.ended().await;
        let took = stopping.expect("the signal was sent").elapsed();
        assert!(ended.status.success(), "{signal:?}: {:?} {}", ended.status, ended.err);
        assert!(took < Duration::from_secs(10), "{signal:?} took {took:?}");
        assert!(ended.err.contains("draining") && ended.err.contains("stopped"), "{}", ended.err);
        assert!(!ended.err.contains("cut off"), "{}", ended.err);

        // Every session in the table was acknowledged, and every acknowledged session is in the table.
        let (_process, mut client) = place.serve().await;
        let database = place.connect().await;
        let rows = database.query("SELECT session_id::text FROM user_sessions", &[]).await;
        let there: BTreeSet<String> = rows.expect("a query").iter().map(|row| row.get(0)).collect();
        let said: BTreeSet<String> = acknowledged.iter().map(|made| made.id.clone()).collect();
        assert_eq!(there, said, "{signal:?}");
        assert_kept(&mut client, &acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_a_crash_left_with_the_id_of_another_process_holds_up_no_start() {
    let place = Place::new();
    // A server of another test, which runs as the same user.
    let (other, _dir) = own_cluster().await;
    let mut client = place.serve().await;
    for first in [other.pid().expect("it runs").to_string(), "x".to_owned(), String::new()] {
        client.1.create_session(new_session("ada")).await.expect("a session");
        let file = place.data_dir().join("postgres/postmaster.pid");
        let text = std::fs::read_to_string(&file).expect("it runs");
        let (_, rest) = text.split_once('\n').expect("lines");
        let postgres = place.postgres().expect("it runs");
        client.0.signal(Signal::KILL);
        client.0.ended().await;
        // It may have ended already.
        let _ = kill_process(postgres, Signal::KILL);
        wait::until(async || test_kill_process(postgres).is_err()).await;
        let left = if first.is_empty() { String::new() } else { format!("{first}\n{rest}") };
        std::fs::write(&file, left).expect("our file");
        client = place.serve().await;
    }
    client.0.signal(Signal::TERM);
    assert!(client.0.ended().await.status.success());
}
