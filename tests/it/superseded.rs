//! Tokens from before a re-authentication: they do not get its authentication class.

use chrono::Duration;
use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use sessiond::grpc::pb::terminate_session_request::Target;

use crate::harness::calls::{parts, reason, refusal, successor};
use crate::harness::forge::claims;
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, audit, start, start_with, wait};

const SUPERSEDED: &str = "REFRESH_TOKEN_SUPERSEDED";

#[tokio::test(flavor = "multi_thread")]
async fn older_access_tokens_open_nothing_at_once_on_any_replica() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, first, refresh) = parts(&server.create("ada").await);
    let second = successor(server.refresh(&refresh).await).access_token;
    for server in [&server, &replica] {
        for token in [&first, &second] {
            assert_eq!(server.validate(token).await.outcome(), pb::Outcome::Active);
        }
    }
    let (_, tokens) = replica.step_up(&id).await;
    for server in [&server, &replica] {
        for token in [&first, &second] {
            server.assert_superseded(token).await;
        }
        let judged = server.validate(&tokens.access_token).await;
        assert_eq!(judged.outcome(), pb::Outcome::Active);
    }
    // A later refresh supersedes nothing.
    let next = successor(server.refresh(&tokens.refresh_token).await);
    for token in [&tokens.access_token, &next.access_token] {
        assert_eq!(server.validate(token).await.outcome(), pb::Outcome::Active);
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_refresh_token_is_refused_in_its_windows_and_reuse_beyond() {
    let instant = Duration::microseconds(1);
    for (seen, window) in [(true, Duration::seconds(10)), (false, Duration::hours(1))] {
        // Without an idle timeout, which would end the session within the longer window.
        let server = start_with(|settings| settings.policy.idle_timeout = None).await;
        let replica = server.replica_with(|settings| settings.policy.idle_timeout = None).await;
        let (id, _, old) = parts(&server.create("ada").await);
        let (session, tokens) = server.step_up(&id).await;
        if seen {
            server.validate(&tokens.access_token).await;
            server.until_confirmed(&id, 2).await;
        }
        for age in [Duration::zero(), window] {
            server.advance(age);
            for server in [&server, &replica] {
                assert_eq!(refusal(server.refresh(&old).await), SUPERSEDED, "seen: {seen}");
            }
        }
        let untouched = server.get(&id).await.expect("a session");
        assert_eq!((untouched.state(), untouched.etag), (pb::SessionState::Active, session.etag));
        server.advance(instant);
        assert_eq!(refusal(replica.refresh(&old).await), "REFRESH_TOKEN_REUSED", "seen: {seen}");
        assert_stolen(&server, &id).await;
        assert_eq!(refusal(server.refresh(&tokens.refresh_token).await), "SESSION_TERMINATED");
    }
}

/// Asserts that the session ended as stolen, with one alert.
async fn assert_stolen(server: &TestServer, id: &str) {
    let session = server.get(id).await.expect("a session");
    assert_eq!(session.end_reason(), pb::EndReason::RefreshReuse);
    let filter = pb::AlertFilter { session_id: id.to_owned(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(server.list_alerts(request).await.expect("a list").alerts.len(), 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_refreshed_while_the_user_stepped_up_goes_on_with_the_new_pair() {
    let server = start().await;
    let (id, _, first) = parts(&server.create("ada").await);
    // The answer of this refresh is lost.
    let lost = successor(server.refresh(&first).await);
    let (_, tokens) = server.step_up(&id).await;
    for old in [&first, &lost.refresh_token, &first] {
        assert_eq!(refusal(server.refresh(old).await), SUPERSEDED);
    }
    let next = successor(server.refresh(&tokens.refresh_token).await);
    // The use of the new tokens proves that they arrived.
    assert_eq!(
        successor(server.refresh(&tokens.refresh_token).await).refresh_token,
        next.refresh_token
    );
    assert_eq!(refusal(server.refresh(&first).await), "REFRESH_TOKEN_REUSED");
    assert_stolen(&server, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_successor_was_used_before_the_step_up_is_reuse_at_once() {
    let server = start().await;
    let (id, _, first) = parts(&server.create("ada").await);
    let second = successor(server.refresh(&first).await);
    server.validate(&second.access_token).await;
    server.until_confirmed(&id, 2).await;
    server.step_up(&id).await;
    assert_eq!(refusal(server.refresh(&second.refresh_token).await), SUPERSEDED);
    assert_eq!(refusal(server.refresh(&first).await), "REFRESH_TOKEN_REUSED");
    assert_stolen(&server, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_token_still_logs_out() {
    let server = start().await;
    for by_refresh in [true, false] {
        let (id, access, refresh) = parts(&server.create("ada").await);
        let (_, tokens) = server.step_up(&id).await;
        let target =
            if by_refresh { Target::RefreshToken(refresh) } else { Target::AccessToken(access) };
        let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
        let ended = server.terminate_as(request).await.expect("ok").expect("the session");
        assert_eq!((ended.end_reason(), ended.session_id), (pb::EndReason::Logout, id));
        assert_eq!(refusal(server.refresh(&tokens.refresh_token).await), "SESSION_TERMINATED");
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pair_of_the_step_up_leaves_through_32_refreshes_that_race_with_it() {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let server = start().await;
    let replica = server.replica().await;
    let either = |i: usize| if i.is_multiple_of(2) { &server } else { &replica };
    for round in 0..10 {
        let (id, _, old) = parts(&server.create(&format!("user-{round}")).await);
        // In every second round the step-up waits for the row before the refreshes begin.
        let first = format!("SELECT 1 FROM user_sessions WHERE session_id = '{id}' FOR UPDATE");
        let held = if round % 2 == 0 { Some(server.db.hold(&first).await) } else { None };
        let refreshing = async {
            if held.is_some() {
                wait::until(async || server.db.count(WAITING).await > 0).await;
            }
            drop(held);
            join_all((0..32).map(|i| either(i).refresh(&old))).await
        };
        let (answers, (session, tokens)) = join(refreshing, either(round / 2).step_up(&id)).await;
        for answer in answers {
            match answer {
                Ok(answer) => {
                    let pair = answer.tokens.expect("tokens");
                    assert_ne!(pair.refresh_token, tokens.refresh_token);
                    let claims = claims(&pair.access_token);
                    assert_eq!((&claims["rg"], claims.get("acr")), (&2.into(), None));
                    server.assert_superseded(&pair.access_token).await;
                }
                Err(status) => assert_eq!(reason(&status), SUPERSEDED),
            }
        }
        let now = server.get(&id).await.expect("a session");
        assert_eq!((now.state(), &now.etag), (pb::SessionState::Active, &session.etag));
        assert!([2, 3].contains(&session.refresh_generation));
        assert_eq!(refusal(either(round).refresh(&old).await), SUPERSEDED);
        successor(server.refresh(&tokens.refresh_token).await);
    }
    assert_eq!(server.activities(7).await, 10);
    audit::check(&server.db).await;
}

/// Refreshes until refused, which must be soon.
async fn refresh_until_refused(server: &TestServer, mut token: String) -> String {
    for _ in 0..1_000 {
        match server.refresh(&token).await {
            Ok(answer) => token = answer.tokens.expect("tokens").refresh_token,
            Err(status) => return reason(&status),
        }
    }
    panic!("never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_refreshing_gets_superseded_after_a_step_up_and_is_not_logged_out() {
    let server = start().await;
    let replica = server.replica().await;
    join_all((0..20).map(async |round: usize| {
        let (id, _, token) = parts(&server.create(&format!("user-{round}")).await);
        let refreshing = refresh_until_refused(&server, token);
        let (answer, (_, tokens)) = join(refreshing, replica.step_up(&id)).await;
        assert_eq!(answer, SUPERSEDED);
        successor(server.refresh(&tokens.refresh_token).await);
    }))
    .await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_step_ups_the_last_one_holds_the_session() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, ..) = parts(&server.create("ada").await);
    let calls = (0..16).map(|i| if i % 2 == 0 { &server } else { &replica }.step_up(&id));
    let mut answers = join_all(calls).await;
    answers.sort_by_key(|(session, _)| session.refresh_generation);
    let generations: Vec<u32> =
        answers.iter().map(|(session, _)| session.refresh_generation).collect();
    assert_eq!(generations, (2..=17).collect::<Vec<_>>());
    let (_, last) = answers.pop().expect("16 answers");
    for (_, tokens) in &answers {
        server.assert_superseded(&tokens.access_token).await;
        assert_eq!(refusal(replica.refresh(&tokens.refresh_token).await), SUPERSEDED);
    }
    successor(server.refresh(&last.refresh_token).await);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stepped_up_after_a_terminate() {
    let server = start().await;
    let replica = server.replica().await;
    join_all((0..40).map(async |round: usize| {
        let (id, ..) = parts(&server.create(&format!("user-{round}")).await);
        let terminating = async { server.terminate(&id).await.expect("ok").expect("the session") };
        let (ended, raced) = join(terminating, replica.reauthenticate(second_factor(&id))).await;
        assert_eq!(ended.end_reason(), pb::EndReason::Logout);
        let raced = raced.map_err(|status| reason(&status));
        for server in [&server, &replica] {
            let late = server.reauthenticate(second_factor(&id)).await.expect_err("too late");
            assert_eq!(reason(&late), "SESSION_TERMINATED");
            match &raced {
                Ok(answer) => {
                    let tokens = answer.tokens.clone().expect("tokens");
                    assert_eq!(ended.refresh_generation, 2, "the end came after it");
                    let judged = server.validate(&tokens.access_token).await;
                    assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
                    let refusal = refusal(server.refresh(&tokens.refresh_token).await);
                    assert_eq!(refusal, "SESSION_TERMINATED");
                }
                Err(why) => assert_eq!(why, "SESSION_TERMINATED"),
            }
        }
    }))
    .await;
    audit::check(&server.db).await;
}
