//! Cached sessions: a revoked one is refused at once on the same replica, and within the bound on others.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use sessiond::grpc::pb::validate_session_request::Freshness;
use tokio::sync::SetOnce;
use tonic::Code;

use crate::harness::calls::{assert_unavailable, new_session, parts, successor, violations};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{TestServer, audit, start, start_with, wait};

/// The staleness bound of a server as shipped.
const BOUND: Duration = Duration::from_secs(1);

impl TestServer {
    async fn validate_as(
        &self,
        token: &str,
        freshness: Option<Freshness>,
    ) -> Result<pb::ValidateSessionResponse, tonic::Status> {
        let access_token = token.to_owned();
        let request = pb::ValidateSessionRequest { access_token, freshness, ..Default::default() };
        Ok(self.sessions().validate_session(request).await?.into_inner())
    }

    async fn terminate_for_watermark(&self, id: &str) -> String {
        let target = pb::terminate_session_request::Target::SessionId(id.to_owned());
        let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
        let answer = self.sessions().terminate_session(request).await.expect("ok").into_inner();
        assert!(answer.session.is_some());
        answer.watermark
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_needs_no_database_and_outlives_it_by_the_bound_at_most() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let alone = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    let (_, token, _) = parts(&server.create("ada").await);
    let mut from_memory = 0;
    // On a busy machine the position of the feed may be almost too old when the feed is cut off.
    for _ in 0..100 {
        proxy.set(Mode::Pass);
        let known = async || Some(alone.try_validate(&token).await.ok()?.cacheable_until_time);
        wait::until(async || known().await.flatten().is_some()).await;
        proxy.set(Mode::BlackHole);
        let cut_off = Instant::now();
        let status = loop {
            let asked = Instant::now();
            match alone.try_validate(&token).await {
                Ok(judged) => {
                    assert_eq!(judged.outcome(), pb::Outcome::Active);
                    assert!(asked.duration_since(cut_off) < BOUND);
                    from_memory += 1;
                }
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Unavailable);
        if from_memory > 0 {
            break;
        }
    }
    assert!(from_memory > 0, "nothing is answered from memory");
    let strong = alone.validate_as(&token, Some(Freshness::Strong(true))).await;
    assert_eq!(strong.expect_err("no database").code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_under_way_brings_back_what_was_ended() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let slow = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    proxy.set(Mode::Slow);
    // Its broken twin, `no-guard`, is found within five rounds.
    for _ in 0..25 {
        join_all((0..5).map(async |_| {
            let (id, token, _) = parts(&slow.create("ada").await);
            let ended = SetOnce::new();
            // Half of the calls read the database and fill the cache, the other half use the cache.
            let loops = (0..8).map(async |number| {
                let freshness = (number % 2 == 0).then_some(Freshness::Strong(true));
                if freshness.is_none() {
                    ended.wait().await;
                }
                let mut rounds_after = 0;
                while rounds_after < 3 {
                    let too_late = ended.initialized();
                    let judged = match slow.validate_as(&token, freshness.clone()).await {
                        Ok(judged) => judged,
                        // On a busy machine the call may be unavailable.
                        Err(status) => {
                            assert_unavailable(&status);
                            continue;
                        }
                    };
                    if too_late {
                        let outcome = judged.outcome();
                        assert_eq!(outcome, pb::Outcome::Inactive, "a read brought it back");
                        rounds_after += 1;
                    }
                }
            });
            let ending = async {
                wait::until(async || slow.terminate(&id).await.is_ok()).await;
                ended.set(()).expect("it ends once");
            };
            join(join_all(loops), ending).await;
        }))
        .await;
    }
    proxy.set(Mode::Pass);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_replicas_refuse_what_was_ended_within_the_bound() {
    let server = start().await;
    let replicas = [server.replica().await, server.replica().await];
    for round in 0..50 {
        let (id, token, _) = parts(&server.create("ada").await);
        for replica in &replicas {
            assert_eq!(replica.validate(&token).await.outcome(), pb::Outcome::Active);
        }
        let watermark = server.terminate_for_watermark(&id).await;
        let ended = Instant::now();
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Inactive, "at once here");
        if round % 2 == 0 {
            for replica in &replicas {
                let input = Freshness::AtLeastAsFresh(watermark.clone());
                let judged = replica.validate_as(&token, Some(input)).await.expect("told");
                assert_eq!(judged.outcome(), pb::Outcome::Inactive, "its watermark says so");
            }
        }
        for replica in &replicas {
            loop {
                let asked = Instant::now();
                let judged = replica.validate(&token).await;
                match judged.outcome() {
                    pb::Outcome::Active => assert!(asked.duration_since(ended) < BOUND),
                    _ => break,
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_cut_off_costs_reads_and_never_the_bound() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let deaf = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    for mode in [Mode::MuteListeners, Mode::CutListeners] {
        proxy.set(mode);
        for _ in 0..3 {
            let (id, token, _) = parts(&server.create("ada").await);
            assert_eq!(deaf.validate(&token).await.outcome(), pb::Outcome::Active);
            server.terminate(&id).await.expect("ok");
            let ended = Instant::now();
            loop {
                let asked = Instant::now();
                match deaf.validate(&token).await.outcome() {
                    pb::Outcome::Active => assert!(asked.duration_since(ended) < BOUND),
                    _ => break,
                }
            }
        }
    }
    proxy.set(Mode::Pass);
    // And the server recovers.
    let (_, token, _) = parts(&server.create("ada").await);
    wait::until(async || {
        let judged = deaf.validate(&token).await;
        judged.cacheable_until_time.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strong_validation_sees_what_was_just_committed_anywhere() {
    let server = start().await;
    let replica = server.replica().await;
    for input in
        [Freshness::Strong(true), Freshness::MaxStaleness(prost_types::Duration::default())]
    {
        let (id, token, _) = parts(&server.create("ada").await);
        assert_eq!(replica.validate(&token).await.outcome(), pb::Outcome::Active);
        server.terminate(&id).await.expect("ok");
        let judged = replica.validate_as(&token, Some(input)).await.expect("told");
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionTerminated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freshness_that_makes_no_sense_is_refused_by_name() {
    let server = start().await;
    let (_, token, _) = parts(&server.create("ada").await);
    let below = prost_types::Duration { seconds: 0, nanos: -1000 };
    for (input, field) in [
        (Freshness::MaxStaleness(below), "max_staleness"),
        (Freshness::Strong(false), "strong"),
        (Freshness::AtLeastAsFresh("x1".to_owned()), "at_least_as_fresh"),
    ] {
        let refused = server.validate_as(&token, Some(input)).await.expect_err("refused");
        assert_eq!(violations(&refused), [field]);
    }
    let instant = prost_types::Duration { seconds: 0, nanos: 1000 };
    for input in [
        Freshness::MaxStaleness(instant),
        Freshness::AtLeastAsFresh("w0".to_owned()),
        Freshness::AtLeastAsFresh(format!("w{:x}", u64::MAX)),
    ] {
        let judged = server.validate_as(&token, Some(input)).await.expect("told");
        assert_eq!(judged.outcome(), pb::Outcome::Active);
        assert!(judged.watermark.starts_with('w'));
        assert_eq!(judged.checked_time.expect("a time").nanos % 1000, 0, "to the microsecond");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_busy_on_one_replica_does_not_idle_out_on_another() {
    // No periodic flush during the test.
    let seldom = |settings: &mut sessiond::server::Settings| {
        settings.policy.access_token_ttl = chrono::Duration::hours(24);
        settings.intervals.flush = Duration::from_secs(60);
    };
    let server = start_with(seldom).await;
    let replica = server.replica_with(seldom).await;
    let (id, mut token, mut refresh) = parts(&server.create("ada").await);
    let since = "SELECT (extract(epoch FROM last_active_at) * 1000000)::bigint FROM user_sessions";
    for _ in 0..3 {
        // The idle timeout is an hour, and the replica has cached the current session.
        assert_eq!(replica.validate_now(&token).await.outcome(), pb::Outcome::Active);
        server.advance(chrono::Duration::minutes(59) + chrono::Duration::seconds(55));
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
        let now = server.clock.now().timestamp_micros();
        wait::until(async || server.db.count(since).await == now).await;
        server.advance(chrono::Duration::seconds(10));
        // The token has expired by now, but the session has not; the replica reports the token first.
        let judged = replica.validate(&token).await;
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::TokenExpired);
        let tokens = successor(replica.refresh(&refresh).await);
        (token, refresh) = (tokens.access_token, tokens.refresh_token);
        assert_eq!(replica.validate(&token).await.outcome(), pb::Outcome::Active);
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    }
    // Long before the deadline the replica need not reload, and an end is final.
    server.terminate(&id).await.expect("ok");
    assert_eq!(replica.validate_now(&token).await.outcome(), pb::Outcome::Inactive);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_session_is_shown_only_for_its_own_user_and_tenant() {
    let server = start().await;
    let (_, ada, _) = parts(&server.create("ada").await);
    let elsewhere = pb::CreateSessionRequest { tenant_id: "acme".to_owned(), ..new_session("ada") };
    let (_, theirs, _) = parts(&server.try_create(elsewhere).await.expect("a session"));
    for _ in 0..3 {
        for (token, tenant) in [(&ada, "default"), (&theirs, "acme")] {
            let session = server.validate(token).await.session.expect("a session");
            assert_eq!((session.tenant_id.as_str(), session.user_id.as_str()), (tenant, "ada"));
        }
    }
}
