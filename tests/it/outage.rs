//! The database goes away and comes back: no session ends, and nothing acknowledged is lost.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use sessiond::dev_postgres::DevPostgres;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::harness::calls::{new_session, parts, successor};
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::load::{Load, judged};
use crate::harness::{audit, clock, start_on, wait};

fn halt(postgres: &DevPostgres) {
    tokio::task::block_in_place(|| postgres.halt());
}

fn resume(postgres: &DevPostgres) {
    tokio::task::block_in_place(|| postgres.resume().expect("it comes up"));
}

const ALERTS: &str = "SELECT count(*) FROM security_alerts";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_under_load_is_an_outage_and_nothing_else() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let server = start_on(db.clone(), clock(), |_| {}).await;
    server.until_health(Serving).await;
    let load = Load::default();
    let users: Vec<String> = (0..8).map(|i| format!("user-{i}")).collect();
    let calling = join_all(users.iter().map(|user| load.run(&server, user)));
    let breaking = async {
        // An orderly stop, then a crash, both in the middle of the load.
        load.until_served().await;
        halt(&postgres);
        server.until_health(NotServing).await;
        for service in ["sessiond.v1.SessionService", "sessiond.v1.AlertService"] {
            assert_eq!(server.health(service).await.expect("an answer"), NotServing);
        }
        load.until_unavailable().await;
        resume(&postgres);
        server.until_health(Serving).await;
        load.until_served().await;
        let pid = postgres.pid().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
        let kill = rustix::process::Signal::KILL;
        rustix::process::kill_process(pid.expect("it runs"), kill).expect("our Postgres");
        load.until_interrupted().await;
        load.until_served().await;
        server.until_health(Serving).await;
        load.stop();
    };
    let (acknowledged, ()) = join(calling, breaking).await;
    for (user, acknowledged) in users.iter().zip(acknowledged) {
        let there: HashSet<String> =
            server.list(user).await.into_iter().map(|session| session.session_id).collect();
        for id in acknowledged {
            assert!(there.contains(&id), "session {id} was acknowledged and is gone");
        }
    }
    assert_eq!(db.count(ALERTS).await, 0);
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refresh_token_is_consumed_by_an_outage() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let server = start_on(db.clone(), clock(), |_| {}).await;
    let users = (0..20).map(|i| format!("user-{i}"));
    let made = join_all(users.map(async |user| parts(&server.create(&user).await).2)).await;
    // Each refreshes its session until it is `UNAVAILABLE`, and retries with its current token.
    let refreshing = join_all(made.into_iter().map(async |mut token| {
        while let Some(answer) = judged(server.refresh(&token)).await {
            token = answer.tokens.expect("tokens").refresh_token;
        }
        token
    }));
    let busy = "SELECT count(*) FROM user_sessions WHERE generation > 2";
    let breaking = async {
        wait::until(async || db.count(busy).await == 20).await;
        halt(&postgres);
    };
    let (held, ()) = join(refreshing, breaking).await;
    resume(&postgres);
    server.until_health(Serving).await;
    for token in held {
        let next = successor(server.refresh(&token).await).refresh_token;
        assert_ne!(next, token);
        assert_eq!(successor(server.refresh(&token).await).refresh_token, next);
        successor(server.refresh(&next).await);
    }
    assert_eq!(db.count(ALERTS).await, 0);
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_its_database_still_stops_in_order() {
    let (postgres, _dir) = own_cluster().await;
    let server = start_on(Db::of(&postgres), clock(), |_| {}).await;
    let (_, access, _) = parts(&server.create("ada").await);
    server.validate(&access).await;
    halt(&postgres);
    assert!(judged(server.try_create(new_session("ada"))).await.is_none());
    // No call is in progress, and jobs may take 4 s.
    let stopping = tokio::time::timeout(Duration::from_secs(5), server.stop());
    stopping.await.expect("within the drain limit");
}
