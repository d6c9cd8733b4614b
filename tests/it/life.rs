//! The whole life of a session, and what remains after a restart.

use sessiond::grpc::pb;

use crate::harness::calls::parts;
use crate::harness::{audit, start, start_on};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_created_used_refreshed_and_terminated() {
    let server = start().await;
    let created = server.create("ada").await;
    let (id, access, refresh) = parts(&created);
    let session = created.session.expect("a session");
    assert_eq!(session.state(), pb::SessionState::Active);
    assert_eq!(session.refresh_generation, 1);

    let validated = server.validate(&access).await;
    assert_eq!(validated.outcome(), pb::Outcome::Active);
    assert_eq!(validated.session.expect("its session").session_id, id);

    let refreshed = server.refresh(&refresh).await.expect("a successor");
    assert_eq!(refreshed.session.expect("a session").refresh_generation, 2);
    let tokens = refreshed.tokens.expect("tokens");
    assert_ne!(tokens.refresh_token, refresh);
    assert_eq!(server.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);

    let ended = server.terminate(&id).await.expect("ok").expect("the session");
    assert_eq!(ended.state(), pb::SessionState::Terminated);
    assert_eq!(ended.end_reason(), pb::EndReason::Logout);
    for token in [&access, &tokens.access_token] {
        let validated = server.validate(token).await;
        assert_eq!(validated.outcome(), pb::Outcome::Inactive);
        assert_eq!(validated.inactive_reason(), pb::InactiveReason::SessionTerminated);
    }
    for kind in [1, 2, 3] {
        assert_eq!(server.activities(kind).await, 1, "one activity of kind {kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_still_there_after_a_restart() {
    let server = start().await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    let next = server.refresh(&refresh).await.expect("a successor").tokens.expect("tokens");

    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, |_| {}).await;
    assert_eq!(server.list("ada").await.len(), 1);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    let replayed = server.refresh(&refresh).await.expect("the same again").tokens.expect("tokens");
    assert_eq!(replayed.refresh_token, next.refresh_token);
    assert_eq!(server.get(&id).await.expect("a session").refresh_generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_that_does_not_match_its_session_is_detected() {
    let lost = "DELETE FROM session_activities WHERE kind =";
    let again = "INSERT INTO session_activities SELECT tenant_id, user_id, occurred_at,
        gen_random_uuid(), session_id, device_id, alert_id, kind, end_reason, generation,
        principal, ip_address, user_agent FROM session_activities WHERE kind =";
    let silent = "UPDATE user_sessions SET state = 1, end_reason = NULL, ended_at = NULL --";
    let forgotten = "DELETE FROM user_sessions --";
    let server = start().await;
    let (id, _, refresh) = parts(&server.create("ada").await);
    server.refresh(&refresh).await.expect("a successor");
    server.terminate(&id).await.expect("ok");
    audit::check(&server.db).await;
    for (damage, kinds) in [(lost, 1..4), (again, 1..4), (silent, 1..2), (forgotten, 1..2)] {
        for kind in kinds {
            let connection = server.db.connect().await;
            connection.batch_execute("CREATE TABLE a AS TABLE session_activities").await.unwrap();
            connection.batch_execute("CREATE TABLE s AS TABLE user_sessions").await.unwrap();
            connection.batch_execute(&format!("{damage} {kind}")).await.expect("damage");
            assert_eq!(audit::broken(&server.db).await.len(), 1, "{damage} {kind}");
            let repair = "TRUNCATE session_activities, user_sessions;
                INSERT INTO session_activities TABLE a; INSERT INTO user_sessions TABLE s;
                DROP TABLE a, s";
            connection.batch_execute(repair).await.expect("repair");
            audit::check(&server.db).await;
        }
    }
}
