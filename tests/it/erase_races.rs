//! EraseUser concurrent with other calls of the user, and of a user with more rows than one call can delete.

use std::time::Duration;

use futures_util::future::{join, join_all};
use sessiond::grpc::pb;

use crate::harness::calls::parts;
use crate::harness::{TestServer, audit, start, wait};
use crate::secrets::dump;

const OF_ADA: &str = "SELECT (SELECT count(*) FROM user_sessions WHERE user_id = 'ada')
    + (SELECT count(*) FROM session_activities WHERE user_id = 'ada')";

/// The calls of a user, one after the other. Each may be refused.
async fn live(server: &TestServer, token: String, alert_id: String, request_id: String) {
    if let Ok(refreshed) = server.refresh(&token).await {
        let tokens = refreshed.tokens.expect("tokens");
        server.validate(&tokens.access_token).await;
        // It succeeds or is refused; then the first token is replayed.
        let _ = server.refresh(&tokens.refresh_token).await;
        let _ = server.refresh(&token).await;
    }
    let step = pb::AcknowledgeAlertRequest { alert_id, request_id, ..Default::default() };
    let _ = server.alerts().acknowledge_alert(step).await;
    let (id, ..) = parts(&server.create("ada").await);
    let _ = server.terminate(&id).await;
    server.create("ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_come_out_before_or_after_an_erasure() {
    let server = start().await;
    let replica = server.replica().await;
    for round in 0..4 {
        let mut lives = Vec::new();
        for at in 0..8 {
            let (_, _, token) = parts(&server.create("ada.4711").await);
            let alert = server.steal_from("ada.4711").await;
            let one = if at % 2 == 0 { &server } else { &replica };
            lives.push(live(one, token, alert.alert_id, server.ids(1).remove(0)));
            lives.push(live(one, String::new(), String::new(), String::new()));
        }
        let erasing = async {
            for _ in 0..=round {
                assert!(replica.erase("ada.4711").await.expect("an erasure").complete);
            }
        };
        join(join_all(lives), erasing).await;
        audit::check(&server.db).await;
    }
    let orphans = "SELECT count(*) FROM security_alerts a LEFT JOIN user_sessions s
        USING (tenant_id, user_id, session_id) WHERE s.session_id IS NULL";
    assert_eq!(server.db.count(orphans).await, 0);
    assert!(server.erase("ada.4711").await.expect("an erasure").complete);
    assert_eq!(server.db.count(&OF_ADA.replace("ada", "ada.4711")).await, 0);
    let (db, _) = (server.stop().await, replica.stop().await);
    // The name has a dot: a short name may occur by chance in a key, in hex or base64url.
    let left = dump(&db.0).await.into_iter().find(|row| row.contains("ada.4711"));
    assert_eq!(left, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_who_has_a_session_and_leaves_no_row_of_theirs() {
    let server = start().await;
    let (id, _, token) = parts(&server.create("ada").await);
    let mut meddler = server.db.connect().await;
    let held = meddler.transaction().await.expect("a transaction");
    held.execute("SELECT 1 FROM user_sessions FOR UPDATE", &[]).await.expect("a lock");
    let waiting = async |count: i64| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
            AND datname = current_database()";
        wait::until(async || server.db.count(sql).await >= count).await;
    };
    let erasing = async {
        waiting(1).await;
        server.erase("ada").await
    };
    let releasing = async {
        waiting(2).await;
        let change = "UPDATE user_sessions SET sweep_at = sweep_at";
        held.execute(change, &[]).await.expect("a change");
        held.commit().await.expect("the end of the lock");
    };
    let (refreshed, (erased, ())) = join(server.refresh(&token), join(erasing, releasing)).await;
    // Both wait for the same row, and Postgres may wake either first; a refresh that comes second fails.
    let activities = 1 + u64::from(refreshed.is_ok());
    let erased = erased.expect("an erasure");
    assert_eq!((erased.sessions_deleted, erased.activities_deleted), (1, activities));
    assert_eq!(server.db.count(OF_ADA).await, 0);
    assert_eq!(server.terminate(&id).await.expect("ok"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_many_sessions_is_erased_over_several_calls() {
    let server = start().await;
    server.create_many("ada", 20_000).await;
    server.create_many("bob", 3).await;
    let mut request = tonic::Request::new(pb::EraseUserRequest {
        user_id: "ada".to_owned(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_millis(250));
    let first = server.sessions().erase_user(request).await.expect("ok").into_inner();
    assert!(!first.complete && first.sessions_deleted > 0, "{first:?}");
    let left = "SELECT count(*) FROM user_sessions WHERE user_id = 'ada'";
    assert_eq!(server.db.count(left).await as u64, 20_000 - first.sessions_deleted);
    assert_eq!(server.activities(12).await, 1, "what is done is on record");

    let (mut all, mut calls) = (first, 1);
    for _ in 0..10 {
        calls += 1;
        let next = server.erase("ada").await.expect("the rest");
        all.sessions_deleted += next.sessions_deleted;
        all.sessions_ended += next.sessions_ended;
        all.activities_deleted += next.activities_deleted;
        if next.complete {
            break;
        }
    }
    assert_eq!((all.sessions_ended, all.sessions_deleted), (20_000, 20_000));
    assert_eq!((all.activities_deleted, server.db.count(OF_ADA).await), (20_000, 0));
    assert_eq!(server.activities(12).await, calls, "one for each call that deleted something");
    assert_eq!(server.list("bob").await.len(), 3);
    audit::check(&server.db).await;
}

/// A report of activity of a session of the user.
fn used(session_id: &str) -> pb::RecordActivitiesRequest {
    let activity = pb::ReportedActivity {
        kind: pb::ActivityKind::ApiRequest.into(),
        user_id: "ada".to_owned(),
        session_id: session_id.to_owned(),
        success: Some(true),
        ..Default::default()
    };
    pb::RecordActivitiesRequest { activities: vec![activity], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_goes_on_beside_a_create_and_a_refresh_and_they_beside_a_report() {
    let server = start().await;
    let (id, _, token) = parts(&server.create("ada").await);
    let mut meddler = server.db.connect().await;
    // Rows that a create and a refresh lock, and write.
    for held in [
        "UPDATE session_users SET last_create_at = last_create_at",
        "SELECT 1 FROM user_sessions FOR NO KEY UPDATE",
        "UPDATE user_sessions SET generation = generation",
    ] {
        let busy = meddler.transaction().await.expect("a transaction");
        busy.execute(held, &[]).await.expect("a lock");
        let accepted = server.sessions().record_activities(used(&id)).await.expect(held);
        assert_eq!(accepted.into_inner().accepted_count, 1);
        busy.rollback().await.expect("the end of the lock");
    }
    // Tables whose rows a report locks, of its user and its session.
    let busy = meddler.transaction().await.expect("a transaction");
    for held in ["session_users", "user_sessions"] {
        let sql = format!("SELECT 1 FROM {held} FOR KEY SHARE");
        busy.execute(&sql, &[]).await.expect("a lock");
    }
    server.refresh(&token).await.expect("a refresh");
    let (other, ..) = parts(&server.create("ada").await);
    server.terminate(&other).await.expect("an end");
    busy.rollback().await.expect("the end of the lock");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_a_report_and_leaves_nothing_of_it() {
    for held in ["session_users", "user_sessions"] {
        let server = start().await;
        server.create("ada").await;
        let mut meddler = server.db.connect().await;
        let reporting = meddler.transaction().await.expect("a transaction");
        let sql = format!("SELECT 1 FROM {held} WHERE user_id = 'ada' FOR KEY SHARE");
        reporting.execute(&sql, &[]).await.expect("a lock");
        let releasing = async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                AND datname = current_database()";
            wait::until(async || server.db.count(sql).await >= 1).await;
            let report =
                "INSERT INTO session_activities (tenant_id, user_id, occurred_at, activity_id,
                    kind, principal, success)
                VALUES ('default', 'ada', now(), gen_random_uuid(), 21, 'test', true)";
            reporting.execute(report, &[]).await.expect("a report");
            reporting.commit().await.expect("the end of the report");
        };
        let (erased, ()) = join(server.erase("ada"), releasing).await;
        let erased = erased.expect("an erasure");
        assert_eq!((erased.complete, erased.activities_deleted), (true, 2), "{held}");
        assert_eq!(server.db.count(OF_ADA).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_refreshes_and_creates_at_the_same_time_leave_nothing_of_an_erased_user() {
    let server = start().await;
    for _ in 0..5 {
        let (id, _, token) = parts(&server.create("ada").await);
        let reports = async {
            for _ in 0..20 {
                // Refused once the session is erased.
                let _ = server.sessions().record_activities(used(&id)).await;
            }
        };
        let refreshes = async {
            let mut token = token;
            while let Ok(next) = server.refresh(&token).await {
                token = next.tokens.expect("tokens").refresh_token;
            }
        };
        let erasing = async {
            wait::until(async || server.activities(20).await > 0).await;
            while !server.erase("ada").await.expect("an erasure").complete {}
        };
        join(join(reports, refreshes), erasing).await;
        // A report about the user alone may be accepted after the erasure.
        assert!(server.erase("ada").await.expect("an erasure").complete);
        assert_eq!(server.db.count(OF_ADA).await, 0);
        audit::check(&server.db).await;
    }
}
