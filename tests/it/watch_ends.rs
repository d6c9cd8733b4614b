//! Ends of streams: by the server, the caller's deadline or the database; each can be resumed.

use std::time::{Duration, Instant};

use sessiond::grpc::pb;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::harness::calls::{assert_unavailable, reason};
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::{clock, start, start_on, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_at_once_when_the_server_stops_and_go_on_elsewhere() {
    let mut server = start_with(|settings| settings.drain_timeout = Duration::from_secs(60)).await;
    let replica = server.replica().await;
    let mut watcher = server.watch("").await;
    server.create("ada").await;
    watcher.events(1).await;
    let begun = Instant::now();
    server.begin_stop();
    let status = watcher.end().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STOPPING"));
    assert!(status.get_error_details().retry_info().is_some());
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let mut watcher = replica.watch(&watcher.cursor).await;
    replica.create("bob").await;
    assert_eq!(watcher.events(1).await[0].user_id, "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_ends_the_stream() {
    let server = start().await;
    let mut request = Request::new(pb::WatchSessionsRequest::default());
    request.metadata_mut().insert("grpc-timeout", "1S".parse().expect("ASCII"));
    let mut watcher = server.watch_sessions(request).await.expect("a watch");
    assert_eq!(watcher.end().await.code(), Code::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stays_away_ends_the_stream_and_no_event_is_lost() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let soon = Duration::from_secs(1);
    let server = start_on(db.clone(), clock(), |settings| settings.watch.outage = soon).await;
    let mut watcher = server.watch("").await;
    server.create("ada").await;
    watcher.events(1).await;
    tokio::task::block_in_place(|| postgres.halt());
    let status = watcher.end().await;
    assert_unavailable(&status);
    let refused = server.watch_sessions(pb::WatchSessionsRequest::default()).await;
    assert_unavailable(&refused.err().expect("a refusal"));
    tokio::task::block_in_place(|| postgres.resume().expect("it comes up"));
    server.until_health(tonic_health::pb::health_check_response::ServingStatus::Serving).await;
    server.create("bob").await;
    let mut watcher = server.watch(&watcher.cursor).await;
    assert_eq!(watcher.events(1).await[0].user_id, "bob");
    watcher.assert_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_of_the_database_ends_no_stream() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let late = Duration::from_secs(600);
    let server = start_on(db.clone(), clock(), |settings| settings.watch.outage = late).await;
    let mut watcher = server.watch("").await;
    server.create("ada").await;
    watcher.events(1).await;
    tokio::task::block_in_place(|| {
        postgres.halt();
        postgres.resume().expect("it comes up");
    });
    server.until_health(tonic_health::pb::health_check_response::ServingStatus::Serving).await;
    server.create("bob").await;
    assert_eq!(watcher.events(1).await[0].user_id, "bob");
}
