//! The sweeper writes the end of expired sessions: late enough, once, and with one activity each.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::parts;
use crate::harness::scrape::{scrape, with_port};
use crate::harness::wait::until;
use crate::harness::{TestServer, start, start_with};

const INSTANT: Duration = Duration::microseconds(1);
/// How long the sweeper waits for other replicas' activity: two flush intervals and the staleness bound.
const SLACK: Duration = Duration::milliseconds(2 * 30 + 1_000);

async fn in_state(server: &TestServer, state: i16) -> i64 {
    server.db.count(&format!("SELECT count(*) FROM user_sessions WHERE state = {state}")).await
}

async fn is_swept(server: &TestServer, user: &str) -> bool {
    let sql = format!("SELECT count(*) FROM user_sessions WHERE state = 3 AND user_id = '{user}'");
    server.db.count(&sql).await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_is_ended_with_one_activity_of_the_system() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    server.advance(Duration::hours(1) + SLACK);
    until(async || is_swept(&server, "ada").await).await;
    let row = format!(
        "SELECT count(*) FROM session_activities WHERE kind = 4 AND principal = 'system'
        AND session_id = '{id}' AND end_reason = 8 AND user_id = 'ada' AND generation = 1"
    );
    assert_eq!(server.db.count(&row).await, 1);
    assert_eq!(server.activities(4).await, 1);
    let ended = "SELECT count(*) FROM user_sessions
        WHERE end_reason = 8 AND ended_at = last_active_at + idle_timeout AND ended_by IS NULL";
    assert_eq!(server.db.count(ended).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_waits_beyond_a_deadline_until_it_is_settled() {
    let server = start().await;
    server.create("first").await;
    server.advance(INSTANT);
    server.create("second").await;
    server.advance(Duration::hours(1) + SLACK - INSTANT);
    // One run sees both: if the second were due as well, it would be swept with the first.
    until(async || is_swept(&server, "first").await).await;
    assert!(!is_swept(&server, "second").await);
    assert_eq!(server.list("second").await[0].state(), pb::SessionState::Expired);
    server.advance(INSTANT);
    until(async || is_swept(&server, "second").await).await;
    assert_eq!(server.activities(4).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_kept_active_is_not_ended_but_looked_at_later() {
    let server = start().await;
    server.create("idle").await;
    let (id, _, refresh) = parts(&server.create("active").await);
    server.advance(Duration::minutes(30));
    let tokens = server.refresh(&refresh).await.expect("a successor").tokens.expect("tokens");
    server.advance(Duration::minutes(3));
    server.validate(&tokens.access_token).await;
    server.advance(Duration::minutes(27) + SLACK);
    until(async || is_swept(&server, "idle").await).await;
    let moved = "SELECT count(*) FROM user_sessions
        WHERE user_id = 'active' AND state = 1 AND sweep_at = last_active_at + idle_timeout";
    until(async || server.db.count(moved).await == 1).await;
    assert_eq!(server.get(&id).await.expect("a session").state(), pb::SessionState::Active);
    server.advance(Duration::minutes(33));
    until(async || is_swept(&server, "active").await).await;
    assert_eq!(server.activities(4).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_left_as_it_ended() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ended").await);
    let ended = server.terminate(&id).await.expect("ok");
    server.create("witness").await;
    server.advance(Duration::hours(1) + SLACK);
    until(async || is_swept(&server, "witness").await).await;
    assert_eq!(Some(server.get(&id).await.expect("a session")), ended);
    assert_eq!((server.activities(3).await, server.activities(4).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_end_each_of_650_sessions_once() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, ..) = parts(&server.create("ada").await);
    server.copy_session(&id, &server.ids(649)).await;
    assert_eq!(in_state(&server, 1).await, 650);
    server.advance(Duration::hours(1) + SLACK);
    until(async || in_state(&server, 1).await == 0).await;
    assert_eq!(in_state(&server, 3).await, 650);
    assert_eq!(server.activities(4).await, 650);
    let distinct = "SELECT count(DISTINCT session_id) FROM session_activities WHERE kind = 4";
    assert_eq!(server.db.count(distinct).await, 650);
    // Neither finds anything more: a later session is swept next, alone.
    replica.create("bob").await;
    server.advance(Duration::hours(1) + SLACK);
    until(async || is_swept(&replica, "bob").await).await;
    assert_eq!(server.activities(4).await, 651);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_sessions_and_one_that_cannot_be_written_stop_no_other() {
    let server = start_with(with_port).await;
    server.create_many("damaged", 250).await;
    server.create_many("ada", 250).await;
    server.create("stuck").await;
    // These are due first. There are more than one batch, and the last of them fails when it is written.
    let spoil = "UPDATE user_sessions SET device = '{\"name\": 7}' WHERE user_id = 'damaged';
        UPDATE user_sessions SET sweep_at = sweep_at - interval '1 minute'
            WHERE user_id IN ('damaged', 'stuck');
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON user_sessions FOR EACH ROW
            WHEN (old.user_id = 'stuck' AND new.state = 3) EXECUTE FUNCTION refuse()";
    server.db.connect().await.batch_execute(spoil).await.expect("damage");
    server.advance(Duration::hours(1) + SLACK);
    let of_ada = "SELECT count(*) FROM user_sessions WHERE state = 3 AND user_id = 'ada'";
    until(async || server.db.count(of_ada).await == 250).await;
    assert_eq!((in_state(&server, 1).await, server.activities(4).await), (251, 250));
    until(async || scrape(&server).await["sessiond_sweeper_set_aside_total"] == 251.0).await;
    // Once repaired, they are swept at the next attempt.
    let mend = "DROP TRIGGER refuse ON user_sessions; UPDATE user_sessions SET device = '{}'";
    server.db.connect().await.batch_execute(mend).await.expect("a repair");
    server.advance(Duration::minutes(10));
    until(async || in_state(&server, 3).await == 501).await;
    assert_eq!(server.activities(4).await, 501);
}
