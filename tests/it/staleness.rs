//! An ended session is refused everywhere within the bound, whatever fails meanwhile, and no active one is refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use rustix::process::{Pid, Signal, kill_process};
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::server::Settings;

use crate::harness::calls::{assert_unavailable, new_session, parts};
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::load::judged;
use crate::harness::proxy::{HELD, Mode, Proxy};
use crate::harness::trials::Trials;
use crate::harness::{audit, clock, impatient, start, start_on, wait};
use crate::watch_revocations::Gateway;

/// Kills the connections of the revocation feeds; returns how many there were.
const KILL_FEEDS: &str =
    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (query LIKE 'SELECT now.snapshot%' OR query LIKE 'LISTEN%')";

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_while_the_feed_is_cut_off_again_and_again() {
    let server = start().await;
    let replicas = [server.replica().await, server.replica().await];
    let trials = Trials::default();
    let meddler = server.db.connect().await;
    let breaking = async {
        let mut killed = 0;
        while killed < 30 {
            trials.until_more(3).await;
            killed += meddler.query_one(KILL_FEEDS, &[]).await.expect("a query").get::<_, i64>(0);
        }
    };
    trials.run(&[&server, &replicas[0], &replicas[1]], 8, breaking).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_from_before_a_revocation_that_arrives_after_it_is_not_cached() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let slow = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    let mut gateway = Gateway::open(&slow, "").await;
    for round in 1..=3 {
        let (id, token, _) = parts(&server.create(HELD).await);
        assert_eq!(slow.validate(&token).await.outcome(), pb::Outcome::Active, "read, and kept");
        proxy.set(Mode::HoldReads);
        let overtaken = async {
            // This call began before the end, so either outcome is right.
            slow.validate_now(&token).await;
        };
        let ending = async {
            proxy.until_held(round).await;
            server.terminate(&id).await.expect("ok");
            gateway.until_ended(&id).await;
            proxy.set(Mode::Pass);
        };
        join(overtaken, ending).await;
        assert_eq!(slow.validate(&token).await.outcome(), pb::Outcome::Inactive, "it was kept");
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_where_revocations_overtake_reads() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let slow = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    proxy.set(Mode::LateReads);
    let trials = Trials::default();
    trials.run(&[&server, &slow], 8, trials.until_more(100)).await;
    proxy.set(Mode::Pass);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_while_one_replica_is_cut_off_from_the_database() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let alone = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    let trials = Trials::default();
    let breaking = async {
        for _ in 0..2 {
            trials.until_more(40).await;
            proxy.set(Mode::BlackHole);
            trials.until_unavailable(4).await;
            proxy.set(Mode::Pass);
        }
        trials.until_more(40).await;
    };
    trials.run(&[&server, &alone], 8, breaking).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_while_postgres_is_restarted() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let server = start_on(db.clone(), clock(), |_| {}).await;
    let replicas = [server.replica().await, server.replica().await];
    let trials = Trials::default();
    let breaking = async {
        for signal in [Signal::QUIT, Signal::INT, Signal::KILL] {
            trials.until_more(40).await;
            let pid = postgres.pid().and_then(|pid| Pid::from_raw(pid.try_into().expect("a pid")));
            kill_process(pid.expect("it runs"), signal).expect("our Postgres");
            trials.until_unavailable(1).await;
        }
        trials.until_more(40).await;
    };
    trials.run(&[&server, &replicas[0], &replicas[1]], 8, breaking).await;
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_between_replicas_whose_clocks_are_hours_apart() {
    let db = Db::fresh().await;
    let off_by = async |hours| {
        let clock = Clock::system_off_by(chrono::Duration::hours(hours));
        start_on(db.clone(), clock, |_| {}).await
    };
    let servers = [off_by(1).await, off_by(-1).await, off_by(0).await];
    let [ahead, behind, right] = servers.each_ref();
    for order in [[ahead, behind, right], [behind, right, ahead], [right, ahead, behind]] {
        let trials = Trials::default();
        trials.run(&order, 8, trials.until_more(40)).await;
    }
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_an_exhausted_pool_keeps_the_bound() {
    let server = start().await;
    let busy = server.replica_with(|settings| {
        impatient(settings);
        settings.database_connections = 2;
    });
    let busy = busy.await;
    let stuck = parts(&server.create("stuck").await);
    let alive = parts(&busy.create("ada").await).1;
    let sql = format!("SELECT 1 FROM user_sessions WHERE session_id = '{}' FOR UPDATE", stuck.0);
    let locked = server.db.hold(&sql).await;
    let stop = AtomicBool::new(false);
    // They occupy both connections of the replica, and one of them always waits for the next.
    let crowd = join_all((0..3).map(async |_| {
        while !stop.load(Ordering::SeqCst) {
            assert!(judged(busy.terminate(&stuck.0)).await.is_none(), "its row is locked");
        }
    }));
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let trials = Trials::default();
    let breaking = async {
        wait::until(async || server.db.count(waiting).await >= 2).await;
        let mut known = 0;
        while known < 500 {
            // On a busy machine the feed may be late, and the call unavailable.
            match busy.try_validate(&alive).await {
                Ok(judged) => {
                    assert_eq!(judged.outcome(), pb::Outcome::Active, "from the cache");
                    known += 1;
                }
                Err(status) => assert_unavailable(&status),
            }
        }
        trials.run(&[&server, &busy], 4, trials.until_more(4)).await;
        stop.store(true, Ordering::SeqCst);
    };
    join(crowd, breaking).await;
    drop(locked);
    wait::until(async || busy.terminate(&stuck.0).await.is_ok()).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_activity_revives_nothing() {
    let server = start().await;
    let seldom = |settings: &mut Settings| settings.intervals.flush = Duration::from_secs(60);
    let replica = server.replica_with(seldom).await;
    let mut ended = Vec::new();
    for number in 0..20 {
        let request = new_session(&format!("user-{number}"));
        let (id, token, _) = parts(&server.try_create(request).await.expect("a session"));
        server.advance(chrono::Duration::seconds(10));
        // The activity is buffered on that replica, but not written.
        assert_eq!(replica.validate(&token).await.outcome(), pb::Outcome::Active);
        server.terminate(&id).await.expect("ok");
        ended.push(token);
    }
    let rows = "SELECT coalesce(sum(hashtext(s::text)::bigint), 0)::bigint FROM user_sessions s";
    let before = server.db.count(rows).await;
    let (db, clock) = replica.stop().await;
    assert_eq!(db.count(rows).await, before, "the last flush left them alone");
    let again = start_on(db, clock, |_| {}).await;
    for token in &ended {
        for server in [&server, &again] {
            let judged = server.validate(token).await;
            assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
        }
    }
    audit::check(&server.db).await;
}
