//! The deadlines of a session and of a token, to the microsecond, with a manual clock.

use chrono::{DateTime, Duration, Utc};
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::grpc::pb::InactiveReason as Why;
use sessiond::server::Settings;
use tonic_types::StatusExt;

use crate::harness::calls::{new_session, parts, reason};
use crate::harness::cluster::Db;
use crate::harness::forge::claims;
use crate::harness::requests::{length, stamp};
use crate::harness::wait::until;
use crate::harness::{TestServer, clock, start, start_on, start_with};

/// Longer than a test takes, and far less than an idle timeout, so that activity is not flushed at once.
const NEVER: std::time::Duration = std::time::Duration::from_secs(60);
const INSTANT: Duration = Duration::microseconds(1);

/// Starts at a whole second, as `exp` counts, with access tokens that outlive their sessions.
async fn start_for_deadlines(change: impl FnOnce(&mut Settings)) -> TestServer {
    let clock = Clock::manual(DateTime::from_timestamp(clock().now().timestamp(), 0).expect("one"));
    start_on(Db::fresh().await, clock, |settings| {
        settings.policy.access_token_ttl = Duration::days(2);
        change(settings);
    })
    .await
}

async fn listed(server: &TestServer, state: pb::SessionState) -> Vec<String> {
    let filter = pb::SessionFilter { state: state.into(), ..Default::default() };
    let request = pb::ListSessionsRequest { filter: Some(filter), ..Default::default() };
    let sessions = server.list_sessions(request).await.expect("a page").sessions;
    assert!(sessions.iter().all(|session| session.state() == state), "{sessions:?}");
    sessions.into_iter().map(|session| session.session_id).collect()
}

/// Waits until the activity of all sessions is in their rows, which lists read.
async fn until_flushed(server: &TestServer) {
    let waiting = "SELECT count(*) FROM user_sessions WHERE last_active_at = created_at";
    until(async || server.db.count(waiting).await == 0).await;
}

/// Asserts in every way that the one session is active, without causing activity.
async fn assert_active(server: &TestServer, id: &str) {
    let session = server.get(id).await.expect("a session");
    assert_eq!((session.state(), session.end_time), (pb::SessionState::Active, None));
    assert_eq!(listed(server, pb::SessionState::Active).await, [id]);
    assert_eq!(listed(server, pb::SessionState::Expired).await, Vec::<String>::new());
}

/// Asserts in every way that the one session passed this deadline.
async fn assert_expired(
    server: &TestServer,
    created: &pb::CreateSessionResponse,
    end: pb::EndReason,
    deadline: DateTime<Utc>,
) {
    let (id, access, refresh) = parts(created);
    let ended = |session: &pb::Session| {
        assert_eq!(session.state(), pb::SessionState::Expired);
        assert_eq!((session.end_reason(), session.end_time), (end, stamp(deadline)));
        assert_eq!(session.terminated_by, "system");
    };
    ended(&server.get(&id).await.expect("a session"));
    assert_eq!(listed(server, pb::SessionState::Active).await, Vec::<String>::new());
    assert_eq!(listed(server, pb::SessionState::Expired).await, std::slice::from_ref(&id));
    ended(&server.list("ada").await[0]);
    let judgement = server.validate(&access).await;
    assert_eq!(judgement.outcome(), pb::Outcome::Inactive);
    let why = match end {
        pb::EndReason::IdleTimeout => Why::SessionExpiredIdle,
        _ => Why::SessionExpiredAbsolute,
    };
    assert_eq!(judgement.inactive_reason(), why);
    ended(&judgement.session.expect("the session"));
    let refusal = server.refresh(&refresh).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "SESSION_EXPIRED");
    let details = refusal.get_error_details();
    let name = &details.error_info().expect("an ErrorInfo").metadata["end_reason"];
    assert_eq!(format!("END_REASON_{name}"), end.as_str_name());
    ended(&server.terminate(&id).await.expect("ok").expect("the session"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_expires_by_idleness_at_its_deadline_and_not_before() {
    let server = start_for_deadlines(|settings| settings.intervals.sweep = NEVER).await;
    let created = server.create("ada").await;
    let deadline = server.clock.now() + Duration::hours(1);
    assert_eq!(created.session.as_ref().expect("one").idle_expire_time, stamp(deadline));
    server.advance(Duration::hours(1) - INSTANT);
    assert_active(&server, &parts(&created).0).await;
    server.advance(INSTANT);
    assert_expired(&server, &created, pb::EndReason::IdleTimeout, deadline).await;
    server.advance(Duration::days(30));
    assert_expired(&server, &created, pb::EndReason::IdleTimeout, deadline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_expires_absolutely_at_its_deadline_and_not_before() {
    let server = start_for_deadlines(|settings| settings.intervals.sweep = NEVER).await;
    let absolute_timeout = length(Duration::minutes(90));
    let request = pb::CreateSessionRequest { absolute_timeout, ..new_session("ada") };
    let created = server.try_create(request).await.expect("a session");
    let deadline = server.clock.now() + Duration::minutes(90);
    let (id, _, refresh) = parts(&created);
    server.advance(Duration::minutes(59));
    let access = server.refresh(&refresh).await.expect("a successor").tokens.expect("tokens");
    let access = access.access_token;
    server.advance(Duration::minutes(31) - INSTANT);
    assert_active(&server, &id).await;
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    server.advance(INSTANT);
    assert_expired(&server, &created, pb::EndReason::AbsoluteTimeout, deadline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sweeper_wrote_down_reads_the_same() {
    let server = start_for_deadlines(|_| {}).await;
    for (timeout, end) in
        [(None, pb::EndReason::IdleTimeout), (Some(30), pb::EndReason::AbsoluteTimeout)]
    {
        server.db.connect().await.batch_execute("DELETE FROM user_sessions").await.expect("none");
        let minutes = timeout.unwrap_or(60);
        let absolute_timeout = timeout.and_then(|minutes| length(Duration::minutes(minutes)));
        let request = pb::CreateSessionRequest { absolute_timeout, ..new_session("ada") };
        let created = server.try_create(request).await.expect("a session");
        let deadline = server.clock.now() + Duration::minutes(minutes);
        server.advance(Duration::minutes(minutes) + Duration::seconds(10));
        let swept = "SELECT count(*) FROM user_sessions WHERE state = 3";
        until(async || server.db.count(swept).await == 1).await;
        assert_expired(&server, &created, end, deadline).await;
    }
    assert_eq!(server.activities(4).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_before_the_deadline_a_session_is_validated_and_refreshed() {
    let server = start_for_deadlines(|_| {}).await;
    let (_, access, _) = parts(&server.create("ada").await);
    let (_, _, refresh) = parts(&server.create("bob").await);
    server.advance(Duration::hours(1) - INSTANT);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    let refreshed = server.refresh(&refresh).await.expect("a successor");
    let deadline = stamp(server.clock.now() + Duration::hours(1));
    assert_eq!(refreshed.session.expect("a session").idle_expire_time, deadline);
    assert_eq!(refreshed.tokens.expect("tokens").refresh_token_expire_time, deadline);
    until_flushed(&server).await;
    server.advance(INSTANT);
    assert_eq!(listed(&server, pb::SessionState::Active).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_moves_the_idle_deadline_and_never_the_absolute_one() {
    let server = start_for_deadlines(|_| {}).await;
    let created = server.create("ada").await;
    let (id, access, _) = parts(&created);
    let before = created.session.expect("a session");
    server.advance(Duration::minutes(50));
    let seen = server.clock.now();
    let validated = server.validate(&access).await.session.expect("a session");
    let session = server.get(&id).await.expect("a session");
    assert_eq!(validated, session);
    assert_eq!(session.last_active_time, stamp(seen));
    assert_eq!(session.idle_expire_time, stamp(seen + Duration::hours(1)));
    assert_eq!(session.absolute_expire_time, before.absolute_expire_time);
    assert_eq!(session.etag, before.etag);

    until_flushed(&server).await;
    let replica = server.replica().await;
    assert_eq!(replica.get(&id).await.expect("a session"), session);
    server.advance(Duration::hours(1) - INSTANT);
    assert_active(&server, &id).await;
    server.advance(INSTANT);
    let session = server.get(&id).await.expect("a session");
    assert_eq!(session.end_time, stamp(seen + Duration::hours(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_activity_of_a_refused_token_does_not_count() {
    let server = start().await;
    let created = server.create("ada").await;
    let (id, access, _) = parts(&created);
    server.advance(Duration::minutes(30));
    assert_eq!(server.validate(&access).await.inactive_reason(), Why::TokenExpired);
    let session = server.get(&id).await.expect("a session");
    assert_eq!(Some(session), created.session);
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_not_written_yet_keeps_a_session_off_the_list_of_expired_ones() {
    let server = start_for_deadlines(|settings| settings.intervals.flush = NEVER).await;
    let (id, access, _) = parts(&server.create("ada").await);
    server.advance(Duration::minutes(50));
    server.validate(&access).await;
    server.advance(Duration::minutes(10));
    assert_eq!(server.get(&id).await.expect("a session").state(), pb::SessionState::Active);
    assert_eq!(listed(&server, pb::SessionState::Expired).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn use_twice_a_second_outlives_an_idle_timeout_of_one_second() {
    let server = start_for_deadlines(|_| {}).await;
    let idle_timeout = length(Duration::seconds(1));
    let request = pb::CreateSessionRequest { idle_timeout, ..new_session("ada") };
    let (id, mut access, mut refresh) =
        parts(&server.try_create(request).await.expect("a session"));
    for i in 0..8 {
        server.advance(Duration::milliseconds(500));
        assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active, "{i}");
        // A token expires no later than its session would without activity.
        server.advance(Duration::milliseconds(500));
        let answer = server.refresh(&refresh).await.expect("a successor");
        let tokens = answer.tokens.expect("tokens");
        (access, refresh) = (tokens.access_token, tokens.refresh_token);
    }
    server.advance(Duration::seconds(1));
    let session = server.get(&id).await.expect("a session");
    assert_eq!(session.end_reason(), pb::EndReason::IdleTimeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_a_terminate_returned_is_final_whatever_a_replica_saw() {
    let server = start_for_deadlines(|settings| settings.intervals.sweep = NEVER).await;
    let replica = start_on(server.db.clone(), server.clock.clone(), |settings| {
        settings.policy.access_token_ttl = Duration::days(2);
        settings.intervals.sweep = NEVER;
        settings.intervals.flush = NEVER;
    })
    .await;
    let (id, access, _) = parts(&server.create("ada").await);
    server.advance(Duration::minutes(50));
    assert_eq!(replica.validate(&access).await.outcome(), pb::Outcome::Active);
    server.advance(Duration::minutes(10));
    let ended = server.terminate(&id).await.expect("ok").expect("the session");
    assert_eq!(ended.state(), pb::SessionState::Expired);
    assert_eq!(replica.validate_now(&access).await.inactive_reason(), Why::SessionExpiredIdle);
    // A replica that stops writes its buffered activity.
    replica.stop().await;
    assert_eq!(server.get(&id).await.expect("a session"), ended);
    assert_eq!((server.activities(3).await, server.activities(4).await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_access_token_outlives_the_absolute_deadline() {
    let server = start().await;
    let absolute_timeout = length(Duration::minutes(7));
    let request = pb::CreateSessionRequest { absolute_timeout, ..new_session("ada") };
    let created = server.try_create(request).await.expect("a session");
    let (_, access, refresh) = parts(&created);
    let deadline = created.session.expect("a session").absolute_expire_time.expect("a time");
    let exp = |token: &str| claims(token)["exp"].as_i64().expect("a number");
    // `exp` is rounded up.
    assert_eq!(exp(&access), (server.clock.now() + Duration::minutes(5)).timestamp() + 1);
    server.advance(Duration::minutes(6));
    let tokens = server.refresh(&refresh).await.expect("a successor").tokens.expect("tokens");
    assert_eq!(exp(&tokens.access_token), deadline.seconds);
    let stated = tokens.access_token_expire_time.expect("a time");
    assert_eq!((stated.seconds, stated.nanos), (deadline.seconds, 0));
    assert_eq!(tokens.refresh_token_expire_time, Some(deadline));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_idle_timeout_only_the_absolute_deadline_counts() {
    let server = start_with(|settings| settings.policy.idle_timeout = None).await;
    let created = server.create("ada").await;
    let (id, _, refresh) = parts(&created);
    let session = created.session.expect("a session");
    assert_eq!(session.idle_expire_time, None);
    let tokens = created.tokens.expect("tokens");
    assert_eq!(tokens.refresh_token_expire_time, session.absolute_expire_time);
    // The last second at which a token still lives for a whole second.
    let last = Duration::seconds(1);
    server.advance(Duration::hours(24) - last);
    assert_active(&server, &id).await;
    server.refresh(&refresh).await.expect("a successor");
    server.advance(last);
    let session = server.get(&id).await.expect("a session");
    assert_eq!(session.end_reason(), pb::EndReason::AbsoluteTimeout);

    let idle_timeout = length(Duration::hours(24));
    let request = pb::CreateSessionRequest { idle_timeout, ..new_session("bob") };
    let session = server.try_create(request).await.expect("a session").session.expect("one");
    assert_eq!(session.idle_expire_time, session.absolute_expire_time);
}
