//! The clock of the database jumps and comes back: actions that cannot be undone wait meanwhile.

use chrono::Duration;
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use sessiond::token::key_life::Purpose;

use crate::harness::calls::{new_session, parts, reason, refusal, successor};
use crate::harness::cluster::Db;
use crate::harness::policies::{idle, set};
use crate::harness::requests::length;
use crate::harness::scrape::{self, with_port};
use crate::harness::{TestServer, audit, start_on, wait};

/// A database whose clock is ahead by the time that [`jump`] sets.
async fn database() -> Db {
    let db = Db::fresh().await;
    let sql = "CREATE SCHEMA wrong;
        CREATE TABLE wrong.ahead AS SELECT interval '0' AS by;
        CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
            AS 'SELECT pg_catalog.clock_timestamp() + by FROM wrong.ahead';
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = wrong, pg_catalog, public',
            current_database()); END $$";
    db.connect().await.batch_execute(sql).await.expect("a clock of its own");
    db
}

async fn jump(db: &Db, ahead: Duration) {
    let sql = format!("UPDATE wrong.ahead SET by = interval '{} seconds'", ahead.num_seconds());
    db.connect().await.batch_execute(&sql).await.expect("a jump");
}

async fn start(db: Db) -> TestServer {
    start_on(db, Clock::system(), |settings| {
        settings.activity_retention = std::time::Duration::from_secs(31 * 86_400);
        with_port(settings);
    })
    .await
}

/// Waits until the server has seen a jump.
async fn until_ahead(server: &TestServer, by: Duration) {
    let near = |ahead: Duration| (ahead - by).abs() < Duration::minutes(1);
    wait::until(async || near(server.clock.ahead_of_wall())).await;
}

/// The monthly partitions of the audit trail, oldest first.
async fn months(db: &Db) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class
        WHERE relname ~ '^session_activities_[0-9]{4}_[0-9]{2}$' ORDER BY 1";
    let rows = db.connect().await.query(sql, &[]).await.expect("the months");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until retention has begun a run at the current time.
async fn until_a_turn_began(server: &TestServer) {
    let month = server.clock.now().format("session_activities_%Y_%m").to_string();
    wait::until(async || months(&server.db).await.contains(&month)).await;
}

async fn is_active(server: &TestServer, access: &str) -> bool {
    server.validate_now(access).await.outcome() == pb::Outcome::Active
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_ahead_sweeps_nobody_and_drops_no_month() {
    let db = database().await;
    let server = start(db.clone()).await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    scrape::until(&server, "sessiond_clock_in_doubt", 0.0).await;
    until_a_turn_began(&server).await;
    let before = months(&db).await;

    jump(&db, Duration::days(120)).await;
    until_ahead(&server, Duration::days(120)).await;
    scrape::until(&server, "sessiond_clock_in_doubt", 1.0).await;
    assert!(!is_active(&server, &access).await, "tokens are judged by the followed time");
    until_a_turn_began(&server).await;
    // A run begins by creating partitions, so the run that would have dropped some has ended.
    jump(&db, Duration::days(240)).await;
    until_ahead(&server, Duration::days(240)).await;
    until_a_turn_began(&server).await;

    jump(&db, Duration::zero()).await;
    until_ahead(&server, Duration::zero()).await;
    let after = months(&db).await;
    assert!(before.iter().all(|month| after.contains(month)), "{before:?} {after:?}");
    assert_eq!(db.count("SELECT count(*) FROM user_sessions WHERE state = 1").await, 1);
    assert!(is_active(&server, &access).await);
    let tokens = successor(server.refresh(&refresh).await);
    assert!(is_active(&server, &tokens.access_token).await);

    // The delayed actions happen once the time is settled.
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = pb::CreateSessionRequest { absolute_timeout: second, ..new_session("bob") };
    server.try_create(request).await.expect("a session");
    let swept = "SELECT count(*) FROM user_sessions WHERE state = 3 AND user_id = 'bob'";
    wait::until(async || db.count(swept).await == 1).await;
    scrape::until(&server, "sessiond_clock_in_doubt", 0.0).await;
    assert_eq!(server.get(&id).await.expect("a session").state(), pb::SessionState::Active);
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_during_a_jump_serves_and_is_withdrawn_after_it() {
    let db = database().await;
    let hour = Duration::hours(1);
    jump(&db, hour).await;
    // The first keys are created by a clock that is ahead.
    let server = start(db.clone()).await;
    scrape::until(&server, "sessiond_clock_in_doubt", 1.0).await;
    // So are their successors, in an emergency.
    for purpose in [Purpose::Refresh, Purpose::Access] {
        let kid = server.signing(purpose).await.kid;
        server.key_work().remove(&kid).await.expect("an answer").expect("it is removed");
    }
    server.until_signed_with(&server.signing(Purpose::Access).await.kid).await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    let (ended, ended_access, _) = parts(&server.create("eve").await);
    server.terminate(&ended).await.expect("ok");
    let all = pb::SessionFilter { user_id: "mallory".to_owned(), ..Default::default() };
    let (_, mallory, _) = parts(&server.create("mallory").await);
    let request = pb::TerminateSessionsRequest { filter: Some(all), ..Default::default() };
    server.sessions().terminate_sessions(request).await.expect("ok");

    jump(&db, Duration::zero()).await;
    until_ahead(&server, Duration::zero()).await;
    let replica = start_on(db.clone(), Clock::system(), |_| {}).await;
    for server in [&server, &replica] {
        assert!(is_active(server, &access).await, "made by a key of later");
        assert!(!is_active(server, &ended_access).await && !is_active(server, &mallory).await);
        for user in ["bob", "mallory"] {
            let (_, access, _) = parts(&server.create(user).await);
            assert!(is_active(server, &access).await, "{user}");
        }
    }
    let tokens = successor(replica.refresh(&refresh).await);
    assert!(is_active(&server, &tokens.access_token).await);
    replica.terminate(&id).await.expect("ok");
    assert!(!is_active(&server, &tokens.access_token).await);
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_machine_whose_clock_is_wrong_sweeps_nobody_before_it_is_sure() {
    let db = Db::fresh().await;
    let clock = Clock::system_off_by(Duration::days(120));
    let server = start_on(db.clone(), clock, with_port).await;
    let request = pb::CreateSessionRequest {
        absolute_timeout: length(Duration::seconds(1)),
        ..new_session("ada")
    };
    let (_, access, _) = parts(&server.try_create(request).await.expect("a session"));
    wait::until(async || !is_active(&server, &access).await).await;
    assert_eq!(scrape::scrape(&server).await["sessiond_clock_in_doubt"], 1.0);
    // A replica whose clock is right sweeps the session.
    let swept = "SELECT count(*) FROM user_sessions WHERE state = 3";
    assert_eq!(db.count(swept).await, 0);
    let _sure = start_on(db.clone(), Clock::system(), |_| {}).await;
    wait::until(async || db.count(swept).await == 1).await;
    assert_eq!(scrape::scrape(&server).await["sessiond_clock_in_doubt"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refresh_create_or_policy_ends_a_session_by_a_time_that_is_in_doubt() {
    let db = database().await;
    let server = start_on(db.clone(), Clock::system(), |settings| {
        settings.policy.idle_timeout = Some(Duration::minutes(30));
        settings.policy.limits.user.max = 1;
        settings.policy.limits.user.on_limit = OnLimit::Reject;
        with_port(settings);
    })
    .await;
    let (_, _, refresh) = parts(&server.create("ada").await);
    server.create("bob").await;
    server.create("eve").await;
    scrape::until(&server, "sessiond_clock_in_doubt", 0.0).await;

    jump(&db, Duration::hours(1)).await;
    until_ahead(&server, Duration::hours(1)).await;
    assert_eq!(refusal(server.refresh(&refresh).await), "SESSION_EXPIRED");
    let another = server.try_create(new_session("bob")).await;
    let refused = another.expect_err("the other may be active again");
    assert_eq!(reason(&refused), "SESSION_LIMIT_REACHED");
    let shorter = idle("default", Duration::minutes(10));
    let updated = server.try_update(set(shorter)).await.expect("a policy");
    assert_eq!(updated.terminated_count, 0);

    jump(&db, Duration::zero()).await;
    until_ahead(&server, Duration::zero()).await;
    assert_eq!(db.count("SELECT count(*) FROM user_sessions WHERE state = 1").await, 3);
    let tokens = successor(server.refresh(&refresh).await);
    assert!(is_active(&server, &tokens.access_token).await);
    // The policy applies to them as soon as the time is settled.
    scrape::until(&server, "sessiond_clock_in_doubt", 0.0).await;
    let held = "SELECT count(*) FROM user_sessions WHERE idle_timeout = interval '10 minutes'";
    wait::until(async || db.count(held).await == 3).await;
}
