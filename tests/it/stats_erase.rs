//! Statistics and EraseUser: those of the user are deleted, those of the tenant stay correct.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts};
use crate::harness::requests::stamp;
use crate::harness::{TestServer, start, start_with, wait};
use crate::stats::{counted, day, report};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn ended(stats: &pb::SessionStats, reason: pb::EndReason) -> u64 {
    let of = |end: &&pb::EndReasonCount| end.end_reason() == reason;
    stats.end_reasons.iter().find(of).map_or(0, |end| end.count)
}

/// Asserts that no statistics of the user are left.
async fn assert_forgotten(server: &TestServer, user: &str) {
    let left = format!(
        "SELECT count(*) FROM (SELECT user_id FROM roll_ups UNION ALL
        SELECT user_id FROM standings UNION ALL SELECT user_id FROM counted_alerts) u
        WHERE user_id = '{user}'"
    );
    assert_eq!(server.db.count(&left).await, 0);
    let nothing = Some(pb::SessionStats::default());
    assert_eq!(day(server, user).await.total, nothing);
}

/// Asserts that the statistics of the tenant are the sums of those of its users.
async fn assert_sums(server: &TestServer) {
    let sums = "SELECT count(*) FROM (
            SELECT sum(live) FILTER (WHERE user_id = '') AS whole,
                coalesce(sum(live) FILTER (WHERE user_id <> ''), 0) AS parts,
                (SELECT count(*) FROM user_sessions
                    WHERE tenant_id = 'default' AND state = 1) AS there
            FROM standings WHERE tenant_id = 'default'
        ) s WHERE whole = parts AND whole = there";
    assert_eq!(server.db.count(sums).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_counts_first_what_it_deletes() {
    // No job counts meanwhile.
    let server = start_with(|settings| settings.intervals.roll_up = HOUR).await;
    server.create("bob").await;
    for _ in 0..3 {
        server.create("ada").await;
    }
    let (id, ..) = parts(&server.create("ada").await);
    server.terminate(&id).await.expect("an end");
    server.steal_from("ada").await;
    // More than one slice.
    report(&server, "ada", true, 2100).await;
    let erased = server.erase("ada").await.expect("an erasure");
    assert_eq!((erased.complete, erased.sessions_ended), (true, 3));
    let answer = day(&server, "").await;
    let total = answer.total.expect("a total");
    assert_eq!((total.created_count, total.refreshed_count), (6, 2));
    assert_eq!(total.succeeded_activity_count, 2100);
    assert_eq!(ended(&total, pb::EndReason::Logout), 1);
    assert_eq!(ended(&total, pb::EndReason::RefreshReuse), 1);
    assert_eq!(ended(&total, pb::EndReason::UserErased), 3);
    assert_eq!((answer.active_count, total.peak_active_count), (1, 5));
    assert_sums(&server).await;
    assert_forgotten(&server, "ada").await;
    // Again, with nothing to erase; and for a user who logs in again.
    server.erase("ada").await.expect("an erasure");
    server.create("ada").await;
    server.erase("ada").await.expect("an erasure");
    let total = day(&server, "").await.total.expect("a total");
    assert_eq!(ended(&total, pb::EndReason::UserErased), 4);
    assert_sums(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_users_come_and_are_erased_the_tenant_has_what_its_users_have() {
    let server = start().await;
    let replica = server.replica().await;
    let coming = async {
        for n in 0..60 {
            let (id, _, refresh) = parts(&replica.create(&format!("user-{}", n % 3)).await);
            // The session may have been erased meanwhile.
            let _ = replica.refresh(&refresh).await;
            let _ = server.terminate(&id).await;
            server.create(&format!("user-{}", n % 3)).await;
        }
    };
    let going = async {
        for n in 0..40 {
            server.erase(&format!("user-{}", n % 2)).await.expect("an erasure");
        }
    };
    tokio::join!(coming, going);
    counted(&server).await;
    assert_sums(&server).await;
    let answer = day(&server, "").await;
    let total = answer.total.expect("a total");
    let ended: u64 = total.end_reasons.iter().map(|end| end.count).sum();
    assert_eq!(total.created_count - ended, answer.active_count);
    for n in 0..3 {
        server.erase(&format!("user-{n}")).await.expect("an erasure");
        assert_forgotten(&server, &format!("user-{n}")).await;
    }
    assert_eq!(day(&server, "").await.active_count, 0);
    assert_sums(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_figures_of_a_tenant_stop_no_other_tenant_and_no_erasure() {
    let server = start().await;
    for user in ["ada", "bob"] {
        server.create(user).await;
    }
    counted(&server).await;
    // First the rows of a user are locked, then those of the tenant.
    for (locked, erased, others) in [("ada", "bob", 1), ("", "cyd", 2)] {
        let hold = format!(
            "SELECT 1 FROM standings
            WHERE tenant_id = 'default' AND user_id = '{locked}' FOR UPDATE"
        );
        let (held, since) = (server.db.hold(&hold).await, server.clock.now());
        server.create("ada").await;
        server.create("cyd").await;
        let acme = pb::CreateSessionRequest { tenant_id: "acme".to_owned(), ..new_session("eve") };
        server.try_create(acme).await.expect("a session");
        counted(&server).await;
        assert_eq!(of_tenant(&server, "acme").await, others, "another tenant goes on");
        server.advance(Duration::minutes(1));
        assert_eq!(day(&server, "").await.as_of_time, stamp(since));
        // On a busy machine a slice may time out; the call is safe to repeat.
        wait::until(async || server.erase(erased).await.is_ok()).await;
        let left = format!("SELECT count(*) FROM user_sessions WHERE user_id = '{erased}'");
        assert_eq!(server.db.count(&left).await, 0);
        drop(held);
        let aside = "SELECT count(*) FROM feed_consumers WHERE consumer LIKE 'stats:%'";
        wait::until(async || server.db.count(aside).await == 0).await;
        assert!(server.erase(erased).await.expect("an erasure").complete);
        assert_forgotten(&server, erased).await;
        assert_sums(&server).await;
    }
}

async fn of_tenant(server: &TestServer, tenant: &str) -> i64 {
    let live = format!(
        "SELECT coalesce(sum(live), 0)::bigint FROM standings
        WHERE tenant_id = '{tenant}' AND user_id = ''"
    );
    server.db.count(&live).await
}
