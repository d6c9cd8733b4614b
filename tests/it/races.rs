//! Concurrent changes of one session: an end is final, and the trail matches the changes.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};
use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;

use crate::harness::calls::{parts, reason, refusal, successor};
use crate::harness::{TestServer, audit, start, start_with, wait};

/// Concurrent rounds.
const ABREAST: usize = 20;

/// Refreshes until refused. `ended` is set once the terminate has returned.
async fn refresh_until_refused(server: &TestServer, mut token: String, ended: &AtomicBool) {
    loop {
        let too_late = ended.load(Ordering::SeqCst);
        match server.refresh(&token).await {
            Ok(answer) => {
                assert!(!too_late, "a refresh that started after the terminate succeeded");
                token = answer.tokens.expect("tokens").refresh_token;
            }
            Err(status) => return assert_eq!(reason(&status), "SESSION_TERMINATED"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_refresh_succeeds_after_a_terminate() {
    let server = start().await;
    let replica = server.replica().await;
    for _ in 0..10 {
        join_all((0..ABREAST).map(async |round| {
            let (id, _, token) = parts(&server.create("ada").await);
            let ended = AtomicBool::new(false);
            let terminating = async {
                let session = server.terminate(&id).await.expect("ok").expect("the session");
                ended.store(true, Ordering::SeqCst);
                assert_eq!(session.end_reason(), pb::EndReason::Logout);
            };
            // One client holds the chain: a second one would fall behind, and count as a replay.
            let refresher = if round % 2 == 0 { &server } else { &replica };
            let refreshing = refresh_until_refused(refresher, token.clone(), &ended);
            join(terminating, refreshing).await;
            for server in [&server, &replica] {
                assert_eq!(refusal(server.refresh(&token).await), "SESSION_TERMINATED");
            }
        }))
        .await;
    }
    let logouts = "SELECT count(*) FROM user_sessions WHERE state = 2 AND end_reason = 1";
    assert_eq!(server.db.count(logouts).await, 200, "the end stays as it was");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_terminates_one_counts() {
    use pb::terminate_session_request::Target;
    let server = start().await;
    let replica = server.replica().await;
    // As many at once as the connection pools of both servers handle in time on a busy machine.
    let rounds = (0..100).map(async |_| {
        let (id, access, refresh) = parts(&server.create("ada").await);
        let calls = [
            (&server, Target::SessionId(id.clone()), pb::EndReason::Admin),
            (&replica, Target::SessionId(id), pb::EndReason::CredentialChanged),
            (&server, Target::RefreshToken(refresh), pb::EndReason::Logout),
            (&replica, Target::AccessToken(access), pb::EndReason::SuspiciousActivity),
        ]
        .map(async |(server, target, reason)| {
            let request = pb::TerminateSessionRequest {
                target: Some(target),
                reason: reason.into(),
                ..Default::default()
            };
            let answer = server.sessions().terminate_session(request).await.expect("ok");
            answer.into_inner().session.expect("the session")
        });
        let answers = join_all(calls).await;
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "all tell of one end: {answers:?}");
    });
    stream::iter(rounds).buffer_unordered(8).collect::<()>().await;
    assert_eq!(server.activities(3).await, 100);
    audit::check(&server.db).await;
}

/// Validates continuously until the token is inactive.
async fn validate_until_inactive(server: &TestServer, token: &str, ended: &AtomicBool) {
    loop {
        let too_late = ended.load(Ordering::SeqCst);
        let judged = server.validate_now(token).await;
        if judged.outcome() == pb::Outcome::Inactive {
            return assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
        }
        assert!(!too_late, "a validate that started after the terminate was active");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_validate_is_active_after_a_terminate() {
    let server = start().await;
    let replica = server.replica().await;
    for _ in 0..10 {
        join_all((0..ABREAST).map(async |_| {
            let (id, token, _) = parts(&server.create("ada").await);
            let ended = AtomicBool::new(false);
            let terminating = async {
                server.terminate(&id).await.expect("ok");
                ended.store(true, Ordering::SeqCst);
            };
            let validating =
                [&server, &replica].map(|server| validate_until_inactive(server, &token, &ended));
            join(terminating, join_all(validating)).await;
            assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Inactive);
            assert_eq!(replica.validate_now(&token).await.outcome(), pb::Outcome::Inactive);
        }))
        .await;
    }
    audit::check(&server.db).await;
}

fn one_session(settings: &mut Settings) {
    settings.policy.limits.user.max = 1;
    settings.policy.limits.user.on_limit = OnLimit::TerminateOldest;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_at_the_limit_ends_its_victim_for_good() {
    let server = start_with(one_session).await;
    let replica = server.replica_with(one_session).await;
    join_all((0..100).map(async |round| {
        let user = format!("user-{round}");
        let (id, _, token) = parts(&server.create(&user).await);
        let ended = AtomicBool::new(false);
        let creating = async {
            let created = server.create(&user).await;
            ended.store(true, Ordering::SeqCst);
            created
        };
        let refreshing = refresh_until_refused(&replica, token, &ended);
        let (created, ()) = join(creating, refreshing).await;
        let [victim] = &created.terminated_sessions[..] else { panic!("not one victim") };
        assert_eq!((&victim.session_id, victim.end_reason()), (&id, pb::EndReason::Limit));
        successor(replica.refresh(&parts(&created).2).await);
    }))
    .await;
    assert_eq!(server.activities(3).await, 100);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_and_a_refresh_write_down_an_expiry_once() {
    let server =
        start_with(|settings| settings.intervals.sweep = std::time::Duration::from_millis(1));
    let server = server.await;
    let replica = server.replica().await;
    let users = (0..100).map(|i| format!("user-{i}"));
    let made = join_all(users.map(async |user| parts(&server.create(&user).await))).await;
    // The sweeper leaves a deadline ten seconds of slack: after that both servers may write the end.
    server.advance(chrono::Duration::hours(1) + chrono::Duration::seconds(10));
    let late = join_all(made.iter().map(|(_, _, token)| replica.refresh(token))).await;
    for answer in late {
        assert_eq!(refusal(answer), "SESSION_EXPIRED");
    }
    let swept = "SELECT count(*) FROM user_sessions WHERE state = 3 AND end_reason = 8";
    wait::until(async || server.db.count(swept).await == 100).await;
    assert_eq!(server.activities(4).await, 100);
    audit::check(&server.db).await;
}
