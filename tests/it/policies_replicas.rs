//! Policy changes with other replicas, concurrent calls, crashes and outages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration as StdDuration, Instant};

use chrono::Duration;
use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use sessiond::server::Settings;

use crate::harness::calls::{assert_too_late, assert_unavailable, new_session};
use crate::harness::cluster::Db;
use crate::harness::policies::{idle, level, set};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::requests::length;
use crate::harness::scrape::{scrape, with_port};
use crate::harness::{TestServer, audit, clock, start, start_on, start_with, wait};

const NEVER: StdDuration = StdDuration::from_secs(86_400);
/// The time within which a change reaches every replica.
const BOUND: StdDuration = StdDuration::from_secs(1);
const UNAPPLIED: &str = "SELECT count(*) FROM policies WHERE apply_at IS NOT NULL";

fn idle_by_call_only(settings: &mut Settings) {
    settings.intervals.apply = NEVER;
}

async fn try_create(server: &TestServer, tenant: &str) -> Result<pb::Session, tonic::Status> {
    let tenant_id = tenant.to_owned();
    let request = pb::CreateSessionRequest { tenant_id, ..new_session("ada") };
    Ok(server.try_create(request).await?.session.expect("a session"))
}

async fn create(server: &TestServer, tenant: &str) -> pb::Session {
    try_create(server, tenant).await.expect("a session")
}

fn idle_of(session: &pb::Session) -> i64 {
    let end = session.idle_expire_time.expect("a deadline").seconds;
    end - session.last_active_time.expect("a time").seconds
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_goes_by_a_new_policy_within_the_bound() {
    let server = start().await;
    let replica = server.replica().await;
    for minutes in 1..4 {
        create(&replica, "acme").await;
        server.update(idle("acme", Duration::minutes(minutes))).await;
        let ok = Instant::now();
        assert_eq!(idle_of(&create(&server, "acme").await), minutes * 60, "here at once");
        let is_new = async || {
            let began = Instant::now();
            let new = idle_of(&create(&replica, "acme").await) == minutes * 60;
            assert!(new || began - ok < BOUND, "still the old policy");
            new
        };
        wait::until(is_new).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_created_by_the_old_policy_meanwhile_is_cut() {
    let server = start_with(idle_by_call_only).await;
    let replica = server.replica().await;
    let mut slipped = None;
    for round in 0..100 {
        let tenant = format!("tenant-{round}");
        create(&replica, &tenant).await;
        server.update(idle(&tenant, Duration::minutes(10))).await;
        let session = create(&replica, &tenant).await;
        if idle_of(&session) == 3600 {
            slipped = Some(session);
            break;
        }
    }
    let slipped = slipped.expect("a create that went by what its replica still knew");
    server.advance(Duration::seconds(8));
    let request = pb::GetSessionRequest {
        tenant_id: slipped.tenant_id,
        session_id: slipped.session_id,
        ..Default::default()
    };
    wait::until(async || {
        let answer = server.sessions().get_session(request.clone()).await.expect("an answer");
        idle_of(&answer.into_inner().session.expect("a session")) == 600
    })
    .await;
    wait::until(async || server.db.count(UNAPPLIED).await == 0).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_on_every_replica_end_up_on_the_new_side() {
    let server = start_with(idle_by_call_only).await;
    let replica = server.replica_with(idle_by_call_only).await;
    let (stage, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let creating = |on| {
        let (stage, made) = (&stage, &made);
        async move {
            let mut before = Vec::new();
            while stage.load(Ordering::SeqCst) < 2 {
                let id = create(on, "acme").await.session_id;
                made.fetch_add(1, Ordering::SeqCst);
                if stage.load(Ordering::SeqCst) == 0 {
                    before.push(id);
                }
            }
            before
        }
    };
    let calls = join_all((0..8).map(|n| creating(if n % 2 == 0 { &server } else { &replica })));
    let outliving = "SELECT count(*) FROM user_sessions WHERE idle_timeout > interval '10 minutes'";
    let changing = async {
        wait::until(async || made.load(Ordering::SeqCst) > 100).await;
        stage.store(1, Ordering::SeqCst);
        server.update(idle("acme", Duration::minutes(10))).await;
        // The old policy stays in use for a moment where it is cached.
        let seen = made.load(Ordering::SeqCst);
        wait::until(async || made.load(Ordering::SeqCst) > seen + 50).await;
        stage.store(2, Ordering::SeqCst);
    };
    let (before, ()) = join(calls, changing).await;
    let before: Vec<String> = before.into_iter().flatten().collect();
    let disobey = format!("{outliving} AND session_id::text = ANY($1)");
    let connection = server.db.connect().await;
    let row = connection.query_one(&disobey, &[&before]).await.expect("a count");
    assert_eq!((row.get::<_, i64>(0), before.len() >= 90), (0, true), "created before");

    let _job = server.replica().await;
    server.advance(Duration::seconds(8));
    wait::until(async || server.db.count(UNAPPLIED).await == 0).await;
    assert_eq!(server.db.count(outliving).await, 0);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_finishes_what_a_caller_had_no_time_for() {
    let server = start_with(idle_by_call_only).await;
    server.create_many("ada", 20_000).await;
    server.advance(Duration::minutes(20));
    let policy = pb::Policy { absolute_timeout: length(Duration::minutes(10)), ..level("") };
    let ended = "SELECT count(*) FROM user_sessions WHERE end_reason = 11";
    let mut time = StdDuration::from_millis(800);
    // On a busy machine a call may time out, even the change itself.
    while server.db.count(UNAPPLIED).await == 0 {
        let mut request = tonic::Request::new(set(policy.clone()));
        request.set_timeout(time);
        match server.sessions().update_policy(request).await.map(tonic::Response::into_inner) {
            Ok(first) => {
                let count = server.db.count(ended).await;
                assert_eq!((first.complete, first.terminated_count as i64), (false, count));
            }
            Err(status) => assert_too_late(&status),
        }
        time *= 2;
    }
    let mut last = server.db.count(ended).await;
    assert!(last < 20_000, "there was no time for so many");

    let (db, clock) = (server.db.clone(), server.clock.clone());
    drop(server);
    clock.advance(Duration::seconds(8));
    let other = start_on(db.clone(), clock, |_| {}).await;
    while last < 20_000 {
        wait::until(async || db.count(ended).await > last).await;
        last = db.count(ended).await;
    }
    wait::until(async || db.count(UNAPPLIED).await == 0).await;
    assert_eq!(other.activities(3).await, 20_000);
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_stays_locked_is_held_to_the_policy_later() {
    let server = start_with(idle_by_call_only).await;
    create(&server, "").await;
    let locked = server.db.connect().await;
    locked.batch_execute("BEGIN; SELECT FROM user_sessions FOR UPDATE").await.expect("the lock");
    let done = server.try_update(set(idle("", Duration::minutes(10)))).await.expect("a change");
    assert_eq!((done.terminated_count, done.complete), (0, false));
    drop(locked);
    let _other = server.replica().await;
    server.advance(Duration::seconds(8));
    let held = "SELECT count(*) FROM user_sessions WHERE idle_timeout = interval '10 minutes'";
    wait::until(async || server.db.count(held).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_no_policy_is_made_up() {
    let db = Db::fresh().await;
    let proxy = Proxy::before(&db.url);
    let url = proxy.url.clone();
    let server = start_on(db, clock(), |settings| settings.database_url = url).await;
    server.update(idle("acme", Duration::minutes(10))).await;
    create(&server, "acme").await;
    proxy.set(Mode::BlackHole);
    assert_unavailable(&try_create(&server, "acme").await.expect_err("an outage"));
    assert_unavailable(&server.try_policy("acme", "", true).await.expect_err("an outage"));
    let change = set(idle("acme", Duration::minutes(5)));
    assert_unavailable(&server.try_update(change.clone()).await.expect_err("an outage"));
    proxy.set(Mode::Pass);
    let mut idle = 0;
    wait::until(async || {
        let created = try_create(&server, "acme").await;
        idle = created.as_ref().map_or(0, idle_of);
        created.is_ok()
    })
    .await;
    assert_eq!(idle, 600, "neither the built-in policy nor the change that failed");
    server.try_update(change).await.expect("a change");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_level_at_once_each_count() {
    let server = start().await;
    let replica = server.replica().await;
    let changing = (1..=8).map(|minutes| {
        let on = if minutes % 2 == 0 { &server } else { &replica };
        on.try_update(set(idle("acme", Duration::minutes(minutes))))
    });
    let answers = join_all(changing).await;
    let mut etags: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.expect("a change").policy.expect("a level").etag)
        .collect();
    etags.sort();
    etags.dedup();
    assert_eq!((etags.len(), server.activities(11).await), (8, 8));
    assert_eq!(server.policy("acme", "").await.etag, "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_the_same_policy_share_one_read() {
    let server = start_with(|settings| {
        with_port(settings);
        // Jobs read policies as well.
        let intervals = &mut settings.intervals;
        (intervals.apply, intervals.detect) = (NEVER, NEVER);
    })
    .await;
    let in_progress = async || {
        let text = scrape(&server).await;
        text["sessiond_requests_in_progress"] as usize
    };
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database() AND query LIKE '%policies%'";
    let held = server.db.hold("LOCK TABLE policies IN ACCESS EXCLUSIVE MODE").await;
    let creating = join_all((0..50).map(|_| try_create(&server, "default")));
    let looking = async {
        wait::until(async || in_progress().await == 50).await;
        wait::until(async || server.db.count(waiting).await > 0).await;
        let reads = server.db.count(waiting).await;
        drop(held);
        reads
    };
    let (created, reads) = join(creating, looking).await;
    assert_eq!(reads, 1, "each would hold a connection");
    assert!(created.iter().all(Result::is_ok));
}
