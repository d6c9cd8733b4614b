//! The hub of watchers: one feed reader for all of them, and none while there are none.

use std::time::Duration;

use futures_util::future::join_all;
use sessiond::cache::feed::{Hub, Subscription, WatchSettings};
use sessiond::metrics::Metrics;
use sessiond::model::activity::Activity;
use sessiond::store::pool::Database;
use sessiond::supervise::Tasks;
use tokio::time::Instant;
use uuid::Uuid;

use crate::harness::cluster::{Db, connect, own_cluster_of};
use crate::harness::{TestServer, clock, start, start_on, wait};

fn hub(server: &TestServer) -> Hub {
    let db = Database::new(&server.db.url, 4).expect("a URL");
    let poll = Duration::from_millis(20);
    let tasks = Tasks::new(&Metrics::default());
    Hub::new(db, WatchSettings { poll, ..WatchSettings::default() }, tasks)
}

async fn watch(hub: &Hub) -> Subscription<Uuid> {
    let pick = Box::new(|activity: &Activity, _: &_| Some(activity.id));
    hub.watch(None, pick).await.expect("a place")
}

async fn next(watch: &mut Subscription<Uuid>) -> Uuid {
    let until = Instant::now() + Duration::from_secs(60);
    watch.next(until).await.expect("no failure").expect("an event, within a minute")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_cost_one_reader() {
    let server = start().await;
    let hub = hub(&server);
    let mut watches = Vec::new();
    for _ in 0..1_000 {
        watches.push(watch(&hub).await);
    }
    server.create("ada").await;
    join_all(watches.iter_mut().map(next)).await;
    let before = hub.reads();
    for _ in 0..10 {
        server.create("ada").await;
        let ids = join_all(watches.iter_mut().map(next)).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "the same for all");
    }
    assert_eq!(hub.reads() - before, 10, "each event was read once for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_ends_with_its_last_watcher_and_another_goes_on() {
    let server = start().await;
    let hub = hub(&server);
    assert!(!hub.is_reading());
    let mut first = watch(&hub).await;
    server.create("ada").await;
    next(&mut first).await;
    let position = first.position();
    assert!(hub.is_reading());
    drop(first);
    wait::until(async || !hub.is_reading()).await;
    server.create("ada").await;
    server.create("bob").await;
    let pick = Box::new(|activity: &Activity, _: &_| activity.user.clone());
    let mut second = hub.watch(Some(position), pick).await.expect("a place");
    let mut users = Vec::new();
    for _ in 0..2 {
        let until = Instant::now() + Duration::from_secs(60);
        users.extend(second.next(until).await.expect("no failure").map(|user| user.to_string()));
    }
    assert_eq!(users, ["ada", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_receive_events_while_hundreds_of_transactions_are_open_in_another_database() {
    let (cluster, _dir) = own_cluster_of(400).await;
    let server = start_on(Db::of(&cluster), clock(), |_| {}).await;
    let hub = hub(&server);
    let mut watch = watch(&hub).await;
    server.create("ada").await;
    next(&mut watch).await;
    let mut open = Vec::new();
    for _ in 0..300 {
        let client = connect(&cluster.url("postgres")).await;
        client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("a transaction");
        open.push(client);
    }
    for user in ["bob", "eve"] {
        server.create(user).await;
        next(&mut watch).await;
    }
    // A cursor from now can be resumed there too.
    let position = watch.position();
    server.create("ada").await;
    let pick = Box::new(|activity: &Activity, _: &_| Some(activity.id));
    let mut resumed = hub.watch(Some(position), pick).await.expect("a place");
    assert_eq!(next(&mut resumed).await, next(&mut watch).await);
}
