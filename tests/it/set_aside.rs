//! Locks on rows that detection writes: they delay their own user, but no other user and no erasure.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use crate::detect::{alerts, fail_logins, settled, watching};
use crate::harness::{TestServer, audit, wait};

/// Reports failed logins of each user, each in its own transaction.
async fn fail_each(server: &TestServer, users: &[&str], times: i32) {
    let sql = "INSERT INTO session_activities
        (tenant_id, user_id, occurred_at, activity_id, kind, principal, success)
        VALUES ('default', $1::text, $2::text::timestamptz - $3::int * interval '1 second',
            gen_random_uuid(), 22, 'test', false)";
    let (now, client) = (server.clock.now().to_rfc3339(), server.db.connect().await);
    for back in (0..times).rev() {
        for user in users {
            client.execute(sql, &[user, &now, &back]).await.expect("a row");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_of_some_users_stops_no_detection_of_others() {
    let server = watching().await;
    let users = ["ada", "bob", "cyd", "dan"];
    fail_each(&server, &users, 1).await;
    settled(&server).await;
    let hold = "SELECT 1 FROM user_memories WHERE user_id IN ('ada', 'bob') FOR UPDATE";
    let held = server.db.hold(hold).await;
    server.advance(chrono::Duration::minutes(1));
    fail_each(&server, &users, 7).await;
    server.advance(chrono::Duration::minutes(1));
    fail_each(&server, &["cyd", "ada"], 7).await;
    settled(&server).await;
    assert_eq!(alerts(&server, "cyd").await.len(), 1, "others go on");
    assert_eq!(alerts(&server, "ada").await, []);
    let erased = server.erase("dan").await.expect("an erasure");
    assert!(erased.complete);
    drop(held);
    let aside = "SELECT count(*) FROM feed_consumers WHERE consumer LIKE 'detect:%'";
    assert!(server.db.count(aside).await >= 2, "in the database, for whichever replica");
    wait::until(async || server.db.count(aside).await == 0).await;
    // Each login is counted once: 15 are one incident, which counts those beyond the threshold; 8 are none.
    let evidence = |user: &'static str| {
        let server = &server;
        async move {
            let found = alerts(server, user).await;
            found.iter().map(|alert| alert.occurrence_count).collect::<Vec<_>>()
        }
    };
    assert_eq!(evidence("ada").await, evidence("cyd").await);
    assert_eq!(evidence("bob").await, Vec::<u32>::new());
    fail_each(&server, &["bob"], 2).await;
    settled(&server).await;
    assert_eq!(evidence("bob").await, [1], "10 of his count");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erasures_that_follow_each_other_without_end_keep_detection_from_nothing() {
    let server = watching().await;
    let done = AtomicBool::new(false);
    let erasing = join_all((0..8).map(async |n| {
        while !done.load(Ordering::Relaxed) {
            // An erasure among too many may be refused because of a lock.
            let _ = server.erase(&format!("user-{n}")).await;
        }
    }));
    let watching = async {
        fail_each(&server, &["ada"], 12).await;
        settled(&server).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(erasing, watching);
    assert_eq!(alerts(&server, "ada").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_more_users_would_be_set_aside_than_may_be_detection_waits() {
    let server = watching().await;
    fail_logins(&server, 1, 1).await;
    settled(&server).await;
    let hold = "SELECT 1 FROM user_memories WHERE user_id = 'user-1' FOR UPDATE";
    let held = server.db.hold(hold).await;
    // In one transaction, so they would be set aside together.
    fail_logins(&server, 1001, 1).await;
    let [tries, positions] = [
        "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()",
        "SELECT count(*) FROM feed_consumers",
    ];
    let before = server.db.count(tries).await;
    // From the largest batch down to one transaction, and two more attempts.
    wait::until(async || server.db.count(tries).await >= before + 11).await;
    assert_eq!(server.db.count(positions).await, 2);
    drop(held);
    settled(&server).await;
    assert_eq!(server.db.count(positions).await, 2);
    assert_eq!(server.db.count("SELECT count(*) FROM user_memories").await, 1001);
}
