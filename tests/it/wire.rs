//! A faulty connection to the database: lost acknowledgements, silent connections.

use std::time::Duration;

use futures_util::future::join_all;
use sessiond::grpc::pb;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::harness::calls::{new_session, parts, successor};
use crate::harness::cluster::Db;
use crate::harness::load::judged;
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{TestServer, audit, clock, start_on, wait};

const LONG: Duration = Duration::from_secs(3600);

/// A server that connects to its database through the proxy, with jobs that stay idle.
async fn behind_a_proxy() -> (TestServer, Proxy) {
    let db = Db::fresh().await;
    let proxy = Proxy::before(&db.url);
    let url = proxy.url.clone();
    let server = start_on(db, clock(), |settings| {
        settings.database_url = url;
        settings.intervals.sweep = LONG;
        settings.intervals.flush = LONG;
    });
    (server.await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_commit_was_not_acknowledged_gets_its_answer_at_the_retry() {
    for mode in [Mode::CutCommits, Mode::MuteCommits] {
        let (server, proxy) = behind_a_proxy().await;
        let request_id = "0195d6a0-0000-7000-8000-000000000001".to_owned();
        let request = pb::CreateSessionRequest { request_id, ..new_session("ada") };
        proxy.set(mode);
        assert!(judged(server.try_create(request.clone())).await.is_none(), "{mode:?}");
        proxy.set(Mode::Pass);
        let there = "SELECT count(*) FROM user_sessions";
        assert_eq!(server.db.count(there).await, 1, "{mode:?}: it was committed all the same");

        let first = server.try_create(request.clone()).await.expect("the answer");
        let again = server.try_create(request).await.expect("the answer");
        assert_eq!(first.session, again.session);
        let (id, access, refresh) = parts(&first);
        assert_eq!(parts(&again).2, refresh);
        assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
        assert_eq!(server.get(&id).await.expect("a session").refresh_generation, 1);
        successor(server.refresh(&refresh).await);
        assert_eq!(server.db.count(there).await, 1, "{mode:?}");
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_commit_was_not_acknowledged_gets_its_successor_at_the_retry() {
    for mode in [Mode::CutCommits, Mode::MuteCommits] {
        let (server, proxy) = behind_a_proxy().await;
        let (_, _, token) = parts(&server.create("ada").await);
        proxy.set(mode);
        assert!(judged(server.refresh(&token)).await.is_none(), "{mode:?}");
        proxy.set(Mode::Pass);
        let rotated = "SELECT count(*) FROM user_sessions WHERE generation = 2";
        assert_eq!(server.db.count(rotated).await, 1, "{mode:?}: it was committed all the same");

        let next = successor(server.refresh(&token).await).refresh_token;
        assert_eq!(successor(server.refresh(&token).await).refresh_token, next);
        assert_eq!(server.activities(2).await, 1, "{mode:?}");
        successor(server.refresh(&next).await);
        assert_eq!(server.db.count("SELECT count(*) FROM security_alerts").await, 0);
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminate_whose_commit_was_not_acknowledged_is_safe_to_retry() {
    for mode in [Mode::CutCommits, Mode::MuteCommits] {
        let (server, proxy) = behind_a_proxy().await;
        let (id, access, _) = parts(&server.create("ada").await);
        proxy.set(mode);
        assert!(judged(server.terminate(&id)).await.is_none(), "{mode:?}");
        proxy.set(Mode::Pass);
        assert_eq!(server.activities(3).await, 1, "{mode:?}: it was committed all the same");
        let ended = server.terminate(&id).await.expect("ok").expect("the session");
        assert_eq!(ended.end_reason(), pb::EndReason::Logout);
        let judged = server.validate(&access).await;
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_given_up() {
    let (server, proxy) = behind_a_proxy().await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    server.until_health(Serving).await;
    proxy.set(Mode::BlackHole);
    let (create, refreshed, validated, terminated, got) = tokio::join!(
        judged(server.try_create(new_session("bob"))),
        judged(server.refresh(&refresh)),
        judged(server.try_validate_now(&access)),
        judged(server.terminate(&id)),
        judged(server.get(&id)),
    );
    assert!(create.is_none() && refreshed.is_none() && validated.is_none());
    assert!(terminated.is_none() && got.is_none());
    server.until_health(NotServing).await;

    // New connections work again. Silent ones never will, so they must be closed once detected.
    proxy.set(Mode::Pass);
    server.until_health(Serving).await;
    wait::until(async || {
        let calls = (0..24).map(|_| judged(server.try_validate_now(&access)));
        join_all(calls).await.iter().all(Option::is_some)
    })
    .await;
    let validated = server.validate(&access).await;
    assert_eq!(validated.outcome(), pb::Outcome::Active, "nothing was written meanwhile");
    successor(server.refresh(&refresh).await);
    server.terminate(&id).await.expect("ok");
    audit::check(&server.db).await;
}
