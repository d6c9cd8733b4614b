//! Replays of a refresh token: how long they count as retries, and what they do after that.

use chrono::Duration;
use futures_util::future::join_all;
use sessiond::grpc::pb;

use crate::harness::calls::{metadata, parts, reason, refusal, successor};
use crate::harness::{TestServer, audit, start, start_with};

async fn all_alerts(server: &TestServer) -> Vec<pb::SecurityAlert> {
    let request = pb::ListAlertsRequest::default();
    server.alerts().list_alerts(request).await.expect("a list").into_inner().alerts
}

/// Asserts that the session ended as stolen, once, with one alert, and that no token revives it.
async fn assert_stolen(server: &TestServer, id: &str, tokens: &[&str]) {
    let session = server.get(id).await.expect("a session");
    assert_eq!(session.state(), pb::SessionState::Terminated);
    assert_eq!(session.end_reason(), pb::EndReason::RefreshReuse);
    let [alert] = &all_alerts(server).await[..] else { panic!("not one alert") };
    assert_eq!(alert.severity(), pb::Severity::Critical);
    assert_eq!(alert.category(), pb::Category::TokenTheft);
    assert_eq!(alert.action_taken(), pb::ActionTaken::SessionTerminated);
    assert_eq!((alert.rule_id.as_str(), alert.session_id.as_str()), ("refresh_reuse", id));
    assert_eq!(alert.occurrence_count, 1);
    for token in tokens {
        let status = server.refresh(token).await.expect_err("the session is dead");
        assert_eq!(reason(&status), "SESSION_TERMINATED");
        assert_eq!(metadata(&status, "end_reason").as_deref(), Some("REFRESH_REUSE"));
    }
    assert_eq!(all_alerts(server).await.len(), 1, "later uses raise no more");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_counts_as_a_retry_until_the_last_microsecond_of_its_window() {
    for (seen, window) in [(true, Duration::seconds(10)), (false, Duration::hours(1))] {
        // Without an idle timeout, which would end the session within the longer window.
        let server = start_with(|settings| settings.policy.idle_timeout = None).await;
        let (id, _, token) = parts(&server.create("ada").await);
        let next = successor(server.refresh(&token).await);
        if seen {
            server.validate(&next.access_token).await;
            server.until_confirmed(&id, 2).await;
        }
        server.advance(window);
        let replica = server.replica_with(|settings| settings.policy.idle_timeout = None).await;
        for server in [&server, &replica] {
            let again = successor(server.refresh(&token).await);
            assert_eq!(again.refresh_token, next.refresh_token, "seen: {seen}");
        }
        server.advance(Duration::microseconds(1));
        assert_eq!(refusal(replica.refresh(&token).await), "REFRESH_TOKEN_REUSED", "seen: {seen}");
        let used = server.validate_now(&next.access_token).await;
        assert_eq!(used.outcome(), pb::Outcome::Inactive);
        assert_stolen(&server, &id, &[&token, &next.refresh_token]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_within_the_grace_is_a_retry_although_the_successor_is_in_use() {
    let server = start().await;
    let (id, _, token) = parts(&server.create("ada").await);
    let next = successor(server.refresh(&token).await);
    server.validate(&next.access_token).await;
    server.until_confirmed(&id, 2).await;
    let again = successor(server.refresh(&token).await);
    assert_eq!(again.refresh_token, next.refresh_token);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_not_yet_written_counts_where_it_was_seen() {
    let long = std::time::Duration::from_secs(60);
    let server = start_with(|settings| settings.intervals.flush = long).await;
    let (id, _, token) = parts(&server.create("ada").await);
    let next = successor(server.refresh(&token).await);
    server.validate(&next.access_token).await;
    server.advance(Duration::seconds(10) + Duration::microseconds(1));
    assert_eq!(refusal(server.refresh(&token).await), "REFRESH_TOKEN_REUSED");
    assert_stolen(&server, &id, &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_two_generations_back_is_reuse_at_once() {
    let server = start().await;
    let (id, _, first) = parts(&server.create("ada").await);
    let second = successor(server.refresh(&first).await).refresh_token;
    let third = successor(server.refresh(&second).await).refresh_token;
    assert_eq!(refusal(server.refresh(&first).await), "REFRESH_TOKEN_REUSED");
    assert_stolen(&server, &id, &[&first, &second, &third]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_reuses_are_one_incident() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, _, first) = parts(&server.create("ada").await);
    let (bystander, _, kept) = parts(&server.create("ada").await);
    let second = successor(server.refresh(&first).await).refresh_token;
    successor(server.refresh(&second).await);
    let calls = (0..32).map(|i| if i % 2 == 0 { &server } else { &replica }.refresh(&first));
    let mut reasons: Vec<String> = join_all(calls).await.into_iter().map(refusal).collect();
    reasons.sort();
    assert_eq!(reasons.remove(0), "REFRESH_TOKEN_REUSED");
    assert_eq!(reasons, vec!["SESSION_TERMINATED"; 31]);
    assert_eq!(server.activities(3).await, 1);
    assert_stolen(&server, &id, &[&first]).await;
    successor(server.refresh(&kept).await);
    let bystander = server.get(&bystander).await.expect("a session");
    assert_eq!(bystander.state(), pb::SessionState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_newer_than_its_row_shows_that_writes_were_lost() {
    let server = start().await;
    let (id, _, first) = parts(&server.create("ada").await);
    let second = successor(server.refresh(&first).await).refresh_token;
    let set_back = "UPDATE user_sessions SET generation = 1";
    server.db.connect().await.batch_execute(set_back).await.expect("an update");

    assert_eq!(refusal(server.refresh(&second).await), "SESSION_DATA_REGRESSION");
    let session = server.get(&id).await.expect("a session");
    assert_eq!(session.end_reason(), pb::EndReason::DataRegression);
    let [alert] = &all_alerts(&server).await[..] else { panic!("not one alert") };
    assert_eq!(alert.category(), pb::Category::DataIntegrity);
    assert_eq!(alert.severity(), pb::Severity::Critical);
    assert_eq!(alert.rule_id, "data_regression");
    for token in [&first, &second] {
        let status = server.refresh(token).await.expect_err("the session is dead");
        assert_eq!(reason(&status), "SESSION_TERMINATED");
        assert_eq!(metadata(&status, "end_reason").as_deref(), Some("DATA_REGRESSION"));
    }
    assert_eq!(all_alerts(&server).await.len(), 1);
    assert_eq!(server.activities(3).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_lost_its_end_dies_again_although_its_alert_is_there() {
    let server = start().await;
    let (id, _, first) = parts(&server.create("ada").await);
    let second = successor(server.refresh(&first).await).refresh_token;
    successor(server.refresh(&second).await);
    assert_eq!(refusal(server.refresh(&first).await), "REFRESH_TOKEN_REUSED");
    // As if only this table were restored.
    let restored = "UPDATE user_sessions SET state = 1, end_reason = NULL, ended_at = NULL";
    server.db.connect().await.batch_execute(restored).await.expect("a change");
    assert_eq!(refusal(server.refresh(&first).await), "REFRESH_TOKEN_REUSED");
    assert_eq!(server.get(&id).await.expect("it").state(), pb::SessionState::Terminated);
    let [alert] = &all_alerts(&server).await[..] else { panic!("not one alert") };
    assert_eq!(alert.occurrence_count, 2);
    let named = format!(
        "SELECT count(*) FROM session_activities WHERE kind = 13 AND alert_id = '{}'",
        alert.alert_id
    );
    assert_eq!(server.db.count(&named).await, 2, "both are about the alert that is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_token_of_a_retry_ends_with_the_idle_deadline() {
    let server = start_with(|settings| {
        settings.policy.idle_timeout = Some(Duration::minutes(15));
        settings.policy.access_token_ttl = Duration::hours(1);
    })
    .await;
    let (_, _, token) = parts(&server.create("ada").await);
    let seconds = |time: Option<prost_types::Timestamp>| time.expect("a time").seconds;
    let first = server.refresh(&token).await.expect("a successor");
    let deadline = seconds(first.session.expect("a session").idle_expire_time);
    server.advance(Duration::minutes(14));
    let again = server.refresh(&token).await.expect("a retry");
    assert_eq!(seconds(again.session.expect("a session").idle_expire_time), deadline);
    let tokens = again.tokens.expect("tokens");
    let expires = seconds(tokens.access_token_expire_time);
    assert!((deadline..=deadline + 1).contains(&expires), "{expires} after {deadline}");
    // At its deadline the session has less than a second left.
    server.advance(Duration::seconds(60) - Duration::microseconds(1));
    assert_eq!(server.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);
}
