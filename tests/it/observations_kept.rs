//! Recorded observations outlive an outage, are written once, and never for an erased user.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use crate::harness::cluster::{Db, own_cluster};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{audit, clock, start_on, start_with, wait};
use crate::observations::{CHANGED, REFUSED, noticed, session_of, times, validate_from};
use crate::secrets::dump;

const LONG: Duration = Duration::from_secs(3600);
const FORGED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.";

#[tokio::test(flavor = "multi_thread")]
async fn observations_during_an_outage_are_written_after_it() {
    let (postgres, _dir) = own_cluster().await;
    let server = start_on(Db::of(&postgres), clock(), |_| {}).await;
    tokio::task::block_in_place(|| postgres.halt());
    for network in 0..100 {
        let ip = format!("10.0.{network}.1");
        validate_from(&server, FORGED, &ip, "").await;
        validate_from(&server, FORGED, &ip, "").await;
    }
    tokio::task::block_in_place(|| postgres.resume().expect("it comes up"));
    server.until_health(Serving).await;
    server.advance(chrono::Duration::minutes(1));
    wait::until(async || times(&server, REFUSED).await == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_whose_commit_was_not_acknowledged_is_repeated_without_a_second_row() {
    for mode in [Mode::CutCommits, Mode::MuteCommits] {
        let db = Db::fresh().await;
        let proxy = Proxy::before(&db.url);
        let url = proxy.url.clone();
        let server = start_on(db, clock(), |settings| {
            settings.database_url = url;
            settings.intervals.sweep = LONG;
        })
        .await;
        let (_, access, _) = session_of(&server, "ada").await;
        proxy.set(mode);
        validate_from(&server, FORGED, "198.51.100.7", "").await;
        wait::until(async || server.activities(REFUSED).await == 1).await;
        proxy.set(Mode::Pass);
        // The second observation is written after the retried first one.
        let seen = async || {
            let judged = validate_from(&server, FORGED, "203.0.113.9", "").await;
            judged.checked_time.is_some() && server.activities(REFUSED).await == 2
        };
        wait::until(seen).await;
        validate_from(&server, &access, "203.0.113.9", "").await;
        wait::until(async || server.activities(CHANGED).await == 1).await;
        assert_eq!(noticed(&server, REFUSED).await.len(), 2, "{mode:?}");
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_of_a_user_who_was_erased_meanwhile() {
    let server = start_with(|settings| settings.intervals.flush = LONG).await;
    let (_, access, _) = session_of(&server, "ada.4711").await;
    let (_, other, _) = session_of(&server, "bob").await;
    for token in [&access, &other] {
        validate_from(&server, token, "198.51.100.7", "curl/8.5").await;
    }
    server.advance(chrono::Duration::minutes(6));
    for token in [&access, &other] {
        validate_from(&server, token, "198.51.100.7", "curl/8.5").await;
    }
    assert!(server.erase("ada.4711").await.expect("an erasure").complete);
    // A user who logs in again after the erasure is a new one.
    session_of(&server, "ada.4711").await;
    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, |_| {}).await;
    for kind in [CHANGED, REFUSED] {
        let rows = noticed(&server, kind).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0][0], "bob");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_among_flushes_leaves_no_row() {
    let server = start_with(|settings| settings.intervals.flush = Duration::from_millis(1)).await;
    let replica = server.replica_with(|s| s.intervals.flush = Duration::from_millis(1)).await;
    for round in 0..6 {
        let mut tokens = Vec::new();
        for _ in 0..20 {
            tokens.push(session_of(&server, "ada.4711").await.1);
        }
        let validating = join_all(tokens.iter().enumerate().map(async |(at, token)| {
            for network in 0..8 {
                let one = if (at + network) % 2 == 0 { &server } else { &replica };
                let ip = format!("10.{round}.{network}.1");
                validate_from(one, token, &ip, "curl/8.5").await;
            }
        }));
        let erasing = async {
            wait::until(async || server.activities(CHANGED).await > 0).await;
            replica.erase("ada.4711").await
        };
        let (_, erased) = join(validating, erasing).await;
        assert!(erased.expect("an erasure").complete);
    }
    let (db, _) = server.stop().await;
    replica.stop().await;
    let left = dump(&db).await.into_iter().find(|row| row.contains("ada.4711"));
    assert_eq!(left, None);
}
