//! A session that is damaged, locked or cannot be written does not affect others.

use std::time::Duration as StdDuration;

use chrono::Duration;
use futures_util::future::join_all;
use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;
use tonic::Code;

use crate::activities::{record, request_in};
use crate::harness::calls::parts;
use crate::harness::policies::{level, set};
use crate::harness::requests::length;
use crate::harness::scrape::{scrape, with_port};
use crate::harness::{TestServer, start_with, wait};
use crate::observations::{CHANGED, noticed, session_of, try_validate_from, validate_from};

const USERS: [&str; 5] = ["ada", "bob", "damaged", "refused", "stuck"];
const NEVER: StdDuration = StdDuration::from_secs(86_400);

/// Creates sessions of all users; returns their access tokens.
pub async fn sessions(server: &TestServer) -> Vec<String> {
    let mut tokens = Vec::new();
    for user in USERS {
        tokens.push(session_of(server, user).await.1);
    }
    tokens
}

/// Damages the row of one session, makes writes that match `refuse` fail, and locks the row of a third.
pub async fn spoil(server: &TestServer, refuse: &str) -> tokio_postgres::Client {
    let sql = format!(
        "{DAMAGE};
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
        CREATE TRIGGER refuse {refuse} EXECUTE FUNCTION refuse()"
    );
    server.db.connect().await.batch_execute(&sql).await.expect("damage");
    server.db.hold("SELECT 1 FROM user_sessions WHERE user_id = 'stuck' FOR UPDATE").await
}

/// Makes a row unreadable.
const DAMAGE: &str = "UPDATE user_sessions SET device = '{\"name\": 7}' WHERE user_id = 'damaged'";
/// Undoes [`DAMAGE`].
pub const MEND: &str = "UPDATE user_sessions SET device =
    (SELECT device FROM user_sessions WHERE user_id = 'ada') WHERE user_id = 'damaged'";

/// Keeps cached sessions for longer than any delay: a damaged one could not be read again.
fn remembering(settings: &mut Settings) {
    with_port(settings);
    settings.staleness_bound = StdDuration::from_secs(60);
}

/// Validates from this address. A replica that stalled has an empty cache, and fills it again.
async fn use_from(server: &TestServer, token: &str, ip: &str, agent: &str) {
    while try_validate_from(server, token, ip, agent).await.is_err() {
        server.meddle(MEND).await;
        server.try_validate(token).await.expect("it can be read");
        server.meddle(DAMAGE).await;
    }
}

pub async fn users_of(server: &TestServer, condition: &str) -> Vec<String> {
    let sql = format!("SELECT DISTINCT user_id FROM user_sessions WHERE {condition} ORDER BY 1");
    let rows = server.db.connect().await.query(&sql, &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn skipped_rows(server: &TestServer, by: &str) -> f64 {
    scrape(server).await[&format!("sessiond_skipped_rows_total{{by=\"{by}\"}}")]
}

#[tokio::test(flavor = "multi_thread")]
async fn last_activity_of_others_is_written() {
    let server = start_with(remembering).await;
    let tokens = sessions(&server).await;
    let refuse = "BEFORE UPDATE ON user_sessions FOR EACH ROW
        WHEN (old.user_id = 'refused' AND new.last_active_at > old.last_active_at)";
    let stuck = spoil(&server, refuse).await;
    server.advance(Duration::minutes(3));
    for token in &tokens {
        use_from(&server, token, "", "").await;
    }
    let moved = "last_active_at > created_at";
    // The flush does not read the row, so it also writes to a damaged one.
    wait::until(async || users_of(&server, moved).await == ["ada", "bob", "damaged"]).await;
    wait::until(async || skipped_rows(&server, "touches").await >= 2.0).await;
    // The locked row's activity stays in the buffer, the failing one is dropped.
    wait::until(async || scrape(&server).await["sessiond_touch_backlog"] == 1.0).await;
    drop(stuck);
    wait::until(async || users_of(&server, moved).await.contains(&"stuck".to_owned())).await;
    wait::until(async || scrape(&server).await["sessiond_touch_backlog"] == 0.0).await;
    assert!(!users_of(&server, moved).await.contains(&"refused".to_owned()));
}

/// Sessions whose rows stay locked: their access tokens, and the connection that holds the locks.
async fn locked(server: &TestServer, count: usize) -> (Vec<String>, tokio_postgres::Client) {
    let users: Vec<String> = (0..count).map(|user| format!("stuck-{user}")).collect();
    let created = join_all(users.iter().map(async |user| session_of(server, user).await.1)).await;
    let hold = "SELECT 1 FROM user_sessions WHERE user_id LIKE 'stuck%' FOR UPDATE";
    (created, server.db.hold(hold).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_locked_sessions_hold_up_no_last_activity() {
    // A flush is due when activity is buffered, and then not for a day.
    let server = start_with(|settings| {
        with_port(settings);
        settings.intervals.flush = NEVER;
    })
    .await;
    let (mut tokens, stuck) = locked(&server, 100).await;
    tokens.push(session_of(&server, "zoe").await.1);
    server.advance(Duration::minutes(3));
    for token in &tokens {
        server.validate(token).await;
    }
    let moved = "last_active_at > created_at";
    // Rows are written in key order, so zoe's is after all the locked ones.
    wait::until(async || users_of(&server, moved).await == ["zoe"]).await;
    wait::until(async || skipped_rows(&server, "touches").await >= 100.0).await;
    assert_eq!(scrape(&server).await["sessiond_touch_backlog"], 100.0, "what is locked is kept");
    drop(stuck);
    // Once unlocked, the rows are written without another flush.
    wait::until(async || users_of(&server, moved).await.len() == 101).await;
    wait::until(async || scrape(&server).await["sessiond_touch_backlog"] == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_locked_sessions_delay_no_observation() {
    let server = start_with(with_port).await;
    let (tokens, stuck) = locked(&server, 60).await;
    let zoe = session_of(&server, "zoe").await.1;
    for token in tokens.iter().chain([&zoe]) {
        validate_from(&server, token, "198.51.100.7", "curl/8.5").await;
    }
    let entered = async || noticed(&server, CHANGED).await.len();
    wait::until(async || entered().await == 1).await;
    wait::until(async || skipped_rows(&server, "observations").await == 60.0).await;
    drop(stuck);
    server.advance(Duration::minutes(10));
    wait::until(async || entered().await == 61).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_locked_sessions_keep_no_other_from_being_held_to_a_policy() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.intervals.sweep = NEVER;
    })
    .await;
    // Newest first.
    session_of(&server, "ada").await;
    let (_, stuck) = locked(&server, 60).await;
    server.advance(Duration::minutes(20));
    let ten = length(Duration::minutes(10));
    let stricter = set(pb::Policy { absolute_timeout: ten, ..level("") });
    let done = server.try_update(stricter).await.expect("a change");
    assert_eq!((done.terminated_count, done.complete), (1, false));
    assert_eq!(users_of(&server, "state <> 1").await, ["ada"]);
    drop(stuck);
    wait::until(async || {
        server.advance(Duration::seconds(31));
        users_of(&server, "state <> 1").await.len() == 61
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observations_of_other_sessions_are_written() {
    let server = start_with(remembering).await;
    let tokens = sessions(&server).await;
    let refuse = "BEFORE INSERT ON session_activities FOR EACH ROW
        WHEN (new.user_id = 'refused' AND new.kind = 26)";
    let stuck = spoil(&server, refuse).await;
    for token in &tokens {
        use_from(&server, token, "198.51.100.7", "curl/8.5").await;
    }
    let entered = async || {
        let mut users: Vec<String> =
            noticed(&server, CHANGED).await.into_iter().map(|[user, ..]| user).collect();
        users.sort();
        users
    };
    // On a busy machine one of them may be set aside too, for ten minutes.
    let in_time = async |users: &[&str]| {
        server.advance(Duration::minutes(1));
        entered().await == users
    };
    wait::until(async || in_time(&["ada", "bob"]).await).await;
    wait::until(async || skipped_rows(&server, "observations").await >= 3.0).await;
    drop(stuck);
    wait::until(async || in_time(&["ada", "bob", "stuck"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_held_to_a_policy() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.intervals.sweep = NEVER;
    })
    .await;
    sessions(&server).await;
    let refuse = "BEFORE UPDATE ON user_sessions FOR EACH ROW
        WHEN (old.user_id = 'refused' AND new.state <> old.state)";
    let stuck = spoil(&server, refuse).await;
    server.advance(Duration::minutes(20));
    let ten = length(Duration::minutes(10));
    let stricter = set(pb::Policy { absolute_timeout: ten, ..level("") });
    let dry = pb::UpdatePolicyRequest { dry_run: true, ..stricter.clone() };
    let said = server.try_update(dry).await.expect("a dry run");
    assert_eq!((said.terminated_count, said.complete), (4, true), "all but the damaged one");
    let done = server.try_update(stricter).await.expect("a change");
    assert_eq!((done.terminated_count, done.complete), (2, false));
    assert_eq!(users_of(&server, "state <> 1").await, ["ada", "bob"]);
    assert!(skipped_rows(&server, "apply_policy").await >= 3.0);
    drop(stuck);
    // The job continues it.
    wait::until(async || {
        server.advance(Duration::seconds(31));
        users_of(&server, "state <> 1").await == ["ada", "bob", "stuck"]
    })
    .await;
    let due = "SELECT count(*) FROM policies WHERE apply_at IS NOT NULL";
    wait::until(async || server.db.count(due).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_terminated_by_a_filter() {
    let server = start_with(with_port).await;
    sessions(&server).await;
    server.meddle(DAMAGE).await;
    let all = pb::SessionFilter { client_id: "web".to_owned(), ..Default::default() };
    let request_id = server.ids(1).remove(0);
    let request =
        pb::TerminateSessionsRequest { filter: Some(all), request_id, ..Default::default() };
    let dry = pb::TerminateSessionsRequest {
        dry_run: true,
        request_id: String::new(),
        ..request.clone()
    };
    let said = server.terminate_many(dry).await.expect("a dry run");
    assert_eq!((said.terminated_count, said.sample.len(), said.complete), (5, 4, true));
    for _ in 0..2 {
        let failed = server.terminate_many(request.clone()).await.expect_err("one is left");
        assert_eq!(failed.code(), Code::Internal);
        assert_eq!(users_of(&server, "state = 1").await, ["damaged"]);
    }
    assert_eq!(skipped_rows(&server, "terminate_many").await, 2.0);
    server.meddle(MEND).await;
    for _ in 0..2 {
        let done = server.terminate_many(request.clone()).await.expect("an end");
        assert_eq!((done.terminated_count, done.sample.len(), done.complete), (5, 5, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_refuses_no_create_and_no_refresh_of_another_user() {
    // Each create reads and ends the previous session.
    let server = start_with(|settings| {
        settings.policy.limits.user.max = 1;
        settings.policy.limits.user.on_limit = OnLimit::TerminateOldest;
    })
    .await;
    let users: Vec<String> = (0..64).map(|user| format!("user-{user}")).collect();
    let created: Vec<_> =
        join_all(users.iter().map(async |user| parts(&server.create(user).await))).await;
    // More damaged rows than lanes, so each lane gets some.
    let spoil = "UPDATE user_sessions SET device = '{\"name\": 7}' WHERE user_id LIKE 'user-%0'";
    server.meddle(spoil).await;
    let is_damaged = |user: &str| user.ends_with('0');
    let refreshed = join_all(created.iter().map(|(_, _, token)| server.refresh(token))).await;
    for (user, outcome) in users.iter().zip(refreshed) {
        let code = outcome.err().map(|status| status.code());
        assert_eq!(code, is_damaged(user).then_some(Code::Internal), "{user}");
    }
    let creates =
        users.iter().map(|user| server.try_create(crate::harness::calls::new_session(user)));
    for (user, outcome) in users.iter().zip(join_all(creates).await) {
        let code = outcome.err().map(|status| status.code());
        assert_eq!(code, is_damaged(user).then_some(Code::Internal), "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_session_refuses_no_report_about_another() {
    let server = start_with(|_| ()).await;
    let (damaged, ..) = parts(&server.create("damaged").await);
    let (sound, ..) = parts(&server.create("ada").await);
    server.meddle(DAMAGE).await;
    let reports = vec![request_in(&sound), request_in(&damaged), request_in(&sound)];
    let answer = record(&server, reports, "").await.expect("ok");
    let rejected: Vec<_> = answer.rejected.iter().map(|it| it.index).collect();
    assert_eq!((answer.accepted_count, rejected), (2, vec![1]));
}
