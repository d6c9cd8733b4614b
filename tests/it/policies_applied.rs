//! A policy that becomes stricter reaches running sessions: the right ones, at once, and no others.

use std::time::{Duration as StdDuration, Instant};

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::server::Settings;

use crate::harness::calls::{new_session, parts};
use crate::harness::policies::{idle, level, set};
use crate::harness::requests::length;
use crate::harness::{TestServer, audit, start, start_with, wait};

/// Longer than a test takes, and far less than an idle timeout, so that activity is not flushed at once.
const NEVER: StdDuration = StdDuration::from_secs(60);

/// The time within which a change reaches the caches of every replica.
const BOUND: StdDuration = StdDuration::from_secs(1);

/// Two flush intervals and the staleness bound: after that no replica has unwritten activity.
const SETTLED: Duration = Duration::seconds(121);

/// No job runs, so every effect is that of a call.
fn still(settings: &mut Settings) {
    settings.policy.access_token_ttl = Duration::hours(12);
    let intervals = &mut settings.intervals;
    (intervals.flush, intervals.sweep, intervals.apply) = (NEVER, NEVER, NEVER);
}

fn absolute(tenant: &str, absolute: Duration) -> pb::Policy {
    pb::Policy { absolute_timeout: length(absolute), ..level(tenant) }
}

fn of_client(policy: pb::Policy, client: &str) -> pb::Policy {
    pb::Policy { client_id: client.to_owned(), ..policy }
}

/// Id and access token of a new session.
async fn create(server: &TestServer, tenant: &str, client: &str) -> (String, String) {
    let request = pb::CreateSessionRequest {
        tenant_id: tenant.to_owned(),
        client_id: client.to_owned(),
        ..new_session("ada")
    };
    let (id, access, _) = parts(&server.try_create(request).await.expect("a session"));
    (id, access)
}

async fn get(server: &TestServer, tenant: &str, id: &str) -> pb::Session {
    let request = pb::GetSessionRequest {
        tenant_id: tenant.to_owned(),
        session_id: id.to_owned(),
        ..Default::default()
    };
    let answer = server.sessions().get_session(request).await.expect("an answer");
    answer.into_inner().session.expect("a session")
}

/// Why a token is inactive; unspecified = it is active.
async fn judged(server: &TestServer, access: &str) -> pb::InactiveReason {
    server.validate(access).await.inactive_reason()
}

const ACTIVE: pb::InactiveReason = pb::InactiveReason::Unspecified;
const IDLE: pb::InactiveReason = pb::InactiveReason::SessionExpiredIdle;

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_idle_timeout_ends_the_right_sessions_on_every_replica_at_once() {
    let server = start_with(still).await;
    let replica = server.replica_with(still).await;
    server.update(of_client(idle("acme", Duration::hours(1)), "own")).await;
    let (late, late_access) = create(&server, "acme", "web").await;
    let (used, used_access) = create(&server, "acme", "web").await;
    let (_, own_access) = create(&server, "acme", "own").await;
    let (_, foreign_access) = create(&server, "", "web").await;
    for access in [&late_access, &used_access, &own_access, &foreign_access] {
        assert_eq!(judged(&replica, access).await, ACTIVE, "from now on it is cached there");
    }
    server.advance(Duration::minutes(20));
    let (fresh, fresh_access) = create(&server, "acme", "web").await;
    assert_eq!(judged(&replica, &used_access).await, ACTIVE, "noted there, and not yet written");

    let change = set(idle("acme", Duration::minutes(10)));
    let dry = pb::UpdatePolicyRequest { dry_run: true, ..change.clone() };
    let said = server.try_update(dry).await.expect("a dry run");
    let done = server.try_update(change).await.expect("a change");
    let ok = Instant::now();
    assert_eq!((said.terminated_count, said.complete), (2, true), "as far as this replica knows");
    assert_eq!((done.terminated_count, done.complete), (2, true));

    assert_eq!(judged(&server, &late_access).await, IDLE);
    let obeys = async || {
        let began = Instant::now();
        // With another audience it is not activity, which would keep the session active.
        let request = pb::ValidateSessionRequest {
            access_token: late_access.clone(),
            audience: "other".to_owned(),
            ..Default::default()
        };
        let judged = replica.sessions().validate_session(request).await.expect("a judgement");
        let reason = judged.into_inner().inactive_reason();
        assert!(reason == IDLE || began - ok < BOUND, "it goes on past the bound: {reason:?}");
        reason == IDLE
    };
    wait::until(obeys).await;
    for access in [&used_access, &fresh_access, &own_access, &foreign_access] {
        assert_eq!(judged(&replica, access).await, ACTIVE);
    }
    let seconds = |session: &pb::Session| {
        let idle = session.idle_expire_time.expect("a deadline").seconds;
        idle - session.last_active_time.expect("a time").seconds
    };
    assert_eq!(seconds(&get(&server, "acme", &fresh).await), 600);

    // The stop writes the unwritten activity, and the sweeper finds the session active.
    replica.stop().await;
    server.advance(Duration::minutes(10) + SETTLED);
    let sweeping = server.replica_with(still_but_sweeping).await;
    let ended = "SELECT count(*) FROM user_sessions WHERE state = 3";
    wait::until(async || server.db.count(ended).await == 3).await;
    for id in [&late, &used, &fresh] {
        assert_eq!(get(&sweeping, "acme", id).await.end_reason(), pb::EndReason::IdleTimeout);
    }
    assert_eq!(judged(&sweeping, &own_access).await, ACTIVE);
    audit::check(&server.db).await;
}

fn still_but_sweeping(settings: &mut Settings) {
    still(settings);
    settings.intervals.sweep = StdDuration::from_millis(30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_idle_for_too_long_is_written_down_once_that_is_settled() {
    let server = start_with(still).await;
    let (id, access) = create(&server, "acme", "web").await;
    let (_, used) = create(&server, "acme", "web").await;
    server.update(idle("", Duration::minutes(15))).await;
    // Due like the others: once its end is written, the sweeper has read all of them.
    let (marker, _) = create(&server, "", "web").await;
    server.advance(Duration::minutes(20));
    let replica = server.replica_with(still).await;
    assert_eq!(judged(&replica, &used).await, ACTIVE);
    let done = server.update(idle("acme", Duration::minutes(10))).await;
    assert_eq!(done.terminated_count, 2);
    assert!(done.sample.iter().all(|session| session.state() == pb::SessionState::Expired));
    assert_eq!(judged(&server, &access).await, IDLE);

    // Long past both deadlines, but not finally: the other replica has unwritten activity.
    server.advance(SETTLED - Duration::seconds(1));
    let sweeping = server.replica_with(still_but_sweeping).await;
    let expired = "SELECT count(*) FROM user_sessions WHERE state = 3";
    wait::until(async || server.db.count(expired).await == 1).await;
    sweeping.stop().await;
    assert_eq!(get(&server, "", &marker).await.end_reason(), pb::EndReason::IdleTimeout);
    replica.stop().await;
    let sweeping = server.replica_with(still_but_sweeping).await;
    server.advance(Duration::seconds(1));
    wait::until(async || server.db.count(expired).await == 2).await;
    assert_eq!(judged(&sweeping, &used).await, ACTIVE);
    assert_eq!(get(&server, "acme", &id).await.end_reason(), pb::EndReason::IdleTimeout);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_absolute_timeout_terminates_what_is_past_it_as_the_dry_run_said() {
    let server = start_with(still).await;
    let replica = server.replica_with(still).await;
    server.update(idle("acme", Duration::zero())).await;
    server.update(of_client(absolute("acme", Duration::hours(24)), "own")).await;
    let mut old = Vec::new();
    for _ in 0..12 {
        old.push(create(&server, "acme", "web").await);
    }
    let (_, own) = create(&server, "acme", "own").await;
    server.advance(Duration::hours(2));
    let (fresh, fresh_access) = create(&server, "acme", "web").await;

    let change = set(absolute("acme", Duration::hours(2)));
    let dry = pb::UpdatePolicyRequest { dry_run: true, ..change.clone() };
    let before = server.policy("acme", "").await;
    let said = server.try_update(dry).await.expect("a dry run");
    assert_eq!((said.terminated_count, said.sample.len(), said.complete), (12, 10, true));
    assert_eq!(said.policy.expect("a level").etag, before.etag);
    assert_eq!(server.policy("acme", "").await, before);
    assert_eq!((server.activities(3).await, server.activities(11).await), (0, 2));

    let done = server.try_update(change).await.expect("a change");
    assert_eq!((done.terminated_count, done.sample.len(), done.complete), (12, 10, true));
    let ids = |sample: &[pb::Session]| {
        sample.iter().map(|session| session.session_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&done.sample), ids(&said.sample), "the newest first");
    for (id, access) in &old {
        let session = get(&server, "acme", id).await;
        assert_eq!(session.end_reason(), pb::EndReason::Policy);
        assert_eq!(session.terminated_by, "anonymous");
        let reason = judged(&replica, access).await;
        assert_eq!(reason, pb::InactiveReason::SessionTerminated);
    }
    assert_eq!(judged(&replica, &fresh_access).await, ACTIVE);
    assert_eq!(judged(&replica, &own).await, ACTIVE, "it states its own");
    let fresh = get(&server, "acme", &fresh).await;
    let (start, end) = (fresh.create_time.expect("a time"), fresh.absolute_expire_time);
    assert_eq!(end.expect("a deadline").seconds - start.seconds, 7200);
    assert_eq!(server.activities(3).await, 12);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_timeout_reaches_new_sessions_only() {
    let server = start().await;
    server.update(idle("acme", Duration::minutes(10))).await;
    let (id, _) = create(&server, "acme", "web").await;
    let before = get(&server, "acme", &id).await;
    let longer = pb::Policy {
        absolute_timeout: length(Duration::days(30)),
        ..idle("acme", Duration::hours(5))
    };
    let done = server.update(longer).await;
    assert_eq!(done.terminated_count, 0);
    let (new, _) = create(&server, "acme", "web").await;
    let new = get(&server, "acme", &new).await;
    assert_eq!(get(&server, "acme", &id).await, before);
    assert_ne!(new.absolute_expire_time, before.absolute_expire_time);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_client_touches_no_other_client() {
    let server = start_with(still).await;
    let (_, web) = create(&server, "acme", "web").await;
    let (_, app) = create(&server, "acme", "app").await;
    let (_, foreign) = create(&server, "", "app").await;
    server.advance(Duration::minutes(20));
    let done = server.update(of_client(idle("acme", Duration::minutes(10)), "app")).await;
    assert_eq!((done.terminated_count, done.sample[0].client_id.as_str()), (1, "app"));
    assert_eq!(judged(&server, &app).await, IDLE);
    assert_eq!(judged(&server, &web).await, ACTIVE);
    assert_eq!(judged(&server, &foreign).await, ACTIVE);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_feels_its_tenant_in_what_it_does_not_state_itself() {
    let server = start_with(still).await;
    server.update(of_client(idle("acme", Duration::hours(1)), "half")).await;
    let preset = pb::Policy { preset: pb::PolicyPreset::Aal2.into(), ..level("acme") };
    server.update(of_client(preset, "whole")).await;
    let (half, half_access) = create(&server, "acme", "half").await;
    let (whole, _) = create(&server, "acme", "whole").await;
    let untouched = get(&server, "acme", &whole).await;
    server.advance(Duration::minutes(20));
    let change = pb::Policy {
        absolute_timeout: length(Duration::hours(2)),
        ..idle("acme", Duration::minutes(10))
    };
    assert_eq!(server.update(change).await.terminated_count, 0);
    assert_eq!(judged(&server, &half_access).await, ACTIVE);
    let held = get(&server, "acme", &half).await;
    let since = |time: Option<prost_types::Timestamp>, start: Option<prost_types::Timestamp>| {
        time.expect("a time").seconds - start.expect("a time").seconds
    };
    assert_eq!(since(held.absolute_expire_time, held.create_time), 7200, "its tenant's");
    assert_eq!(since(held.idle_expire_time, held.last_active_time), 3600, "its own");
    assert_eq!(get(&server, "acme", &whole).await, untouched);
}
