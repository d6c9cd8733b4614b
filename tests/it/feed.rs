//! The activity feed: the activities committed since the last read, late commits included.

use std::collections::HashSet;

use sessiond::model::activity::{Activity, ActivityKind};
use sessiond::model::feed::Horizon;
use sessiond::model::ids::TenantId;
use sessiond::store::changes::Changes;
use sessiond::store::feed::{self, Consumer};
use sessiond::store::pool::{Database, Transaction};
use uuid::Uuid;

use crate::harness::cluster::Db;
use crate::harness::{TestServer, audit, start, start_with};

/// Longer than any test.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

const ROW: &str = "INSERT INTO session_activities
    (tenant_id, user_id, occurred_at, activity_id, kind, principal)
    SELECT 'default', 'ada', '2026-03-14', gen_random_uuid(), 25, 'test'
    FROM generate_series(1, $1::int)";

fn pool(db: &Db) -> Database {
    Database::new(&db.url, 4).expect("a URL")
}

async fn now(db: &Database) -> Horizon {
    feed::now(&mut db.acquire().await.expect("a connection")).await.expect("a snapshot")
}

async fn read(db: &Database, from: Horizon, limit: u32) -> (Horizon, Vec<Activity>) {
    let mut conn = db.acquire().await.expect("a connection");
    let (span, activities) = feed::read(&mut conn, from, limit).await.expect("a span");
    let again = feed::span_of(&mut conn, &span).await.expect("the same");
    assert_eq!(activities, again, "a span is the same whenever it is read");
    (span.to().clone(), activities)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_commits_late_is_read_after_those_that_came_before() {
    let server = start().await;
    let db = pool(&server.db);
    let start = now(&db).await;
    let mut slow = server.db.connect().await;
    let held = slow.transaction().await.expect("a transaction");
    held.execute(ROW, &[&1]).await.expect("a row");
    server.create("bob").await;
    let (then, seen) = read(&db, start, 100).await;
    assert_eq!(seen.len(), 1, "nobody waits for the open transaction");
    let (then, seen) = read(&db, then, 100).await;
    assert_eq!(seen, []);
    held.commit().await.expect("a late commit");
    server.create("bob").await;
    let (then, seen) = read(&db, then, 100).await;
    let users: HashSet<_> = seen.iter().map(|activity| activity.user.clone()).collect();
    assert_eq!((seen.len(), users.len()), (2, 2), "the late one and the new one");
    assert_eq!(read(&db, then, 100).await.1, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_is_bounded_and_never_part_of_a_transaction() {
    let server = start().await;
    let db = pool(&server.db);
    let mut at = now(&db).await;
    let writer = server.db.connect().await;
    for _ in 0..4 {
        writer.execute(ROW, &[&30]).await.expect("rows");
    }
    let mut sizes = Vec::new();
    for _ in 0..4 {
        let (next, seen) = read(&db, at, 40).await;
        sizes.push(seen.len());
        at = next;
    }
    assert_eq!(sizes, [60, 60, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_its_own_writes_the_next_time() {
    let server = start_with(|settings| settings.intervals.detect = HOUR).await;
    let db = pool(&server.db);
    let mut tx = db.begin().await.expect("a transaction");
    let from =
        feed::claim(&mut tx, Consumer::Detect).await.expect("a claim").expect("nobody has it");
    write_in(&mut tx, &server).await;
    // It ends after this transaction began, so that the horizon is beyond this transaction.
    server.create("bob").await;
    let (span, seen) = feed::read(&mut tx, from, 100).await.expect("a span");
    let of_users = seen.iter().filter(|activity| activity.user.is_some());
    assert_eq!(of_users.count(), 1, "that of the other");
    let now = server.clock.now();
    feed::advance(&mut tx, Consumer::Detect, span.to(), now).await.expect("a step");
    tx.commit().await.expect("a commit");
    let mut conn = db.acquire().await.expect("a connection");
    assert!(feed::is_unread(&mut conn, Consumer::Detect).await.expect("a glance"));
    let (_, seen) = feed::read(&mut conn, span.to().clone(), 100).await.expect("a span");
    assert_eq!(seen.len(), 1, "its own");
}

/// Writes an activity in this transaction, without another change.
async fn write_in(tx: &mut Transaction, server: &TestServer) {
    let (tenant, now) = (TenantId::parse("").expect("the default"), server.clock.now());
    let kind = ActivityKind::UserErased;
    let own = Activity::new(server.clock.new_id(), now, kind, "test", &tenant, None);
    let mut changes = Changes::new(&server.clock);
    changes.report(own);
    changes.write(tx).await.expect("a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_hold_the_consumers_and_none_reads_meanwhile() {
    let server = start_with(|settings| settings.intervals.detect = HOUR).await;
    let db = pool(&server.db);
    let mut first = db.begin().await.expect("a transaction");
    let mut second = db.begin().await.expect("a transaction");
    feed::hold(&mut first).await.expect("held");
    feed::hold(&mut second).await.expect("held by both");
    first.commit().await.expect("a commit");
    let mut third = db.begin().await.expect("a transaction");
    assert_eq!(feed::claim(&mut third, Consumer::Detect).await.expect("an answer"), None);
    second.commit().await.expect("a commit");
    assert!(feed::claim(&mut third, Consumer::Detect).await.expect("an answer").is_some());
    third.commit().await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_left_out_and_the_others_are_read() {
    let server = start().await;
    let db = pool(&server.db);
    let start = now(&db).await;
    server.create("ada").await;
    let damage = "UPDATE session_activities SET xid = pg_current_xact_id(), kind = 39";
    server.db.connect().await.batch_execute(damage).await.expect("a change");
    server.create("bob").await;
    assert_eq!(read(&db, start, 100).await.1.len(), 1);
}

/// Creates sessions, and ends every second one.
async fn write(server: &TestServer, user: &str) {
    for at in 0..40 {
        let session = server.create(user).await.session.expect("a session");
        if at % 2 == 0 {
            server.terminate(&session.session_id).await.expect("ok");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_writers_are_read_without_a_gap_or_a_repetition() {
    let server = start().await;
    let replica = server.replica().await;
    let db = pool(&server.db);
    let start = now(&db).await;
    let reading = async {
        let (mut at, mut ids) = (start.clone(), Vec::<Uuid>::new());
        while ids.len() < 180 {
            let (next, seen) = read(&db, at, 7).await;
            ids.extend(seen.iter().map(|activity| activity.id));
            at = next;
        }
        (at, ids)
    };
    let writing = futures_util::future::join3(
        write(&server, "ada"),
        write(&replica, "ada"),
        write(&replica, "bob"),
    );
    let ((at, ids), _) = futures_util::future::join(reading, writing).await;
    assert_eq!(read(&db, at, 7).await.1, []);
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (180, 180));
    let rows = "SELECT count(*) FROM session_activities WHERE user_id <> ''";
    assert_eq!(server.db.count(rows).await, 180);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_of_another_cluster_are_not_new() {
    let server = start().await;
    server.create("ada").await;
    let (db, clock) = server.stop().await;
    let admin = db.connect().await;
    let ahead = "UPDATE session_activities SET xid = '999999999999';
        UPDATE feed_consumers SET read_to = '999999999999:999999999999:'";
    admin.batch_execute(ahead).await.expect("a change");
    let server = crate::harness::start_on(db, clock, |_| {}).await;
    let pool = pool(&server.db);
    let start = now(&pool).await;
    // Transaction ids that this cluster will assign soon, one that it has assigned before, and its current one.
    for (distance, is_read) in [("+ 1", false), ("+ 20", false), ("- 1", false), ("+ 0", true)] {
        let restored = format!(
            "DELETE FROM session_activities WHERE principal = 'dump';
            INSERT INTO session_activities
            (tenant_id, user_id, occurred_at, activity_id, kind, principal, xid) VALUES
            ('default', 'ada', now(), gen_random_uuid(), 1, 'dump',
                (pg_current_xact_id()::text::bigint {distance})::text::xid8)"
        );
        admin.batch_execute(&restored).await.expect("a row");
        for _ in 0..25 {
            admin.batch_execute("SELECT pg_current_xact_id()").await.expect("one more");
        }
        let read = read(&pool, start.clone(), 100).await.1;
        assert_eq!(read.iter().any(|activity| activity.principal == "dump"), is_read, "{distance}");
    }
    let start = now(&pool).await;
    server.create("bob").await;
    assert_eq!(read(&pool, start, 10).await.1.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_is_bounded_also_where_transactions_get_another_digit() {
    let server = start().await;
    let db = pool(&server.db);
    let writer = server.db.connect().await;
    // The query returns transaction ids as text, and as text 99 sorts after 800.
    let place = "UPDATE session_activities SET xid = '99'";
    writer.execute(ROW, &[&30]).await.expect("rows");
    writer.batch_execute(place).await.expect("a change");
    for _ in 0..4 {
        writer.execute(ROW, &[&30]).await.expect("rows");
    }
    let (_, seen) = read(&db, "98:98:".parse().expect("a snapshot"), 40).await;
    // The 41st row is of the second transaction; the first transaction is not of this cluster.
    assert_eq!(seen.len(), 30);
}
