//! Freshness of a validation: how old it may be, and how long a caller may cache it.

use std::time::Duration as StdDuration;

use chrono::{DateTime, Duration, Utc};
use sessiond::grpc::pb;
use sessiond::grpc::pb::validate_session_request::Freshness;
use sessiond::server::Settings;

use crate::harness::calls::parts;
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::requests::length;
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, start, start_with, wait};
use crate::watch_revocations::Gateway;

/// Longer than a read takes on a busy machine.
const LONG: StdDuration = StdDuration::from_secs(60);

fn time(stamp: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let stamp = stamp.expect("a time");
    let nanos = u32::try_from(stamp.nanos).expect("no negative fraction");
    DateTime::from_timestamp(stamp.seconds, nanos).expect("a time")
}

fn long_bound(settings: &mut Settings) {
    settings.staleness_bound = LONG;
}

/// The three moments of which the earliest ends the caching of an answer, and the end in the answer.
async fn cacheable(server: &TestServer) -> ([DateTime<Utc>; 3], DateTime<Utc>) {
    let created = server.create("ada").await;
    let expires = time(created.tokens.as_ref().expect("tokens").access_token_expire_time);
    let judged = server.validate_now(&parts(&created).1).await;
    let session = judged.session.expect("a session");
    let idle = session.idle_expire_time.or(session.absolute_expire_time);
    let deadline = time(idle).min(time(session.absolute_expire_time));
    let bound = time(judged.checked_time) + Duration::from_std(LONG).expect("a length");
    ([bound, expires, deadline], time(judged.cacheable_until_time))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_until_the_bound_the_token_or_the_session_ends() {
    let (minutes, hours) = (Duration::minutes, Duration::hours);
    let (soon, short) = (Duration::seconds(10), Duration::milliseconds(9_500));
    for (earliest, ttl, idle) in
        [(0, minutes(5), hours(1)), (1, soon, hours(1)), (2, minutes(5), short)]
    {
        let server = start_with(|settings| {
            long_bound(settings);
            let policy = &mut settings.policy;
            policy.access_token_ttl = ttl;
            policy.idle_timeout = Some(idle);
        })
        .await;
        let (ends, until) = cacheable(&server).await;
        assert_eq!(until, ends[earliest], "{ends:?}");
        assert!(ends.iter().all(|end| until <= *end), "{until} after one of {ends:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_opens_nothing_is_not_kept() {
    let server = start_with(long_bound).await;
    let (id, access, _) = parts(&server.create("ada").await);
    assert!(server.validate(&access).await.cacheable_until_time.is_some());
    let asked = server.validate_for(&access, "aal2").await;
    assert_eq!(asked.outcome(), pb::Outcome::StepUpRequired);
    assert_eq!(asked.cacheable_until_time, None);
    server.terminate(&id).await.expect("ok");
    for token in [access.as_str(), "no.token.atall"] {
        for judged in [server.validate(token).await, server.validate_now(token).await] {
            assert_eq!(judged.outcome(), pb::Outcome::Inactive);
            assert_eq!(judged.cacheable_until_time, None);
        }
    }
}

/// The user agent that a validation with this staleness returns.
async fn shown(server: &TestServer, token: &str, staleness: Option<Duration>) -> String {
    let request = pb::ValidateSessionRequest {
        access_token: token.to_owned(),
        freshness: staleness.and_then(length).map(Freshness::MaxStaleness),
        ..Default::default()
    };
    let judged = server.sessions().validate_session(request).await.expect("a judgement");
    let judged = judged.into_inner();
    if let Some(staleness) = staleness {
        assert!(time(judged.checked_time) + staleness >= server.clock.now() - SLACK);
    }
    judged.session.expect("a session").user_agent
}

/// The time between a validation and its arrival, on a busy machine.
const SLACK: Duration = Duration::seconds(5);

/// Changes the session's row without a revocation.
async fn rename(server: &TestServer, agent: &str) {
    server.meddle(&format!("UPDATE user_sessions SET user_agent = '{agent}'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn less_staleness_than_the_cache_has_reads_the_database() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let deaf = server.replica_with(|settings| {
        long_bound(settings);
        settings.database_url = proxy.url.clone();
    });
    let deaf = deaf.await;
    let (_, token, _) = parts(&server.create("ada").await);
    rename(&server, "first").await;
    assert_eq!(shown(&deaf, &token, Some(Duration::zero())).await, "first");
    rename(&server, "second").await;
    assert_eq!(shown(&deaf, &token, None).await, "first", "it is cached");
    assert_eq!(
        shown(&deaf, &token, Some(Duration::hours(1))).await,
        "first",
        "no older than the bound"
    );
    assert_eq!(shown(&deaf, &token, Some(Duration::zero())).await, "second");

    proxy.set(Mode::MuteListeners);
    let short = Duration::milliseconds(300);
    let mut round = 0;
    wait::until(async || {
        let checked = time(deaf.validate(&token).await.checked_time);
        if deaf.clock.now() - checked <= short {
            return false;
        }
        round += 1;
        let name = format!("round {round}");
        rename(&server, &name).await;
        // On a busy machine it may have to reconnect, and then does not use its cache.
        let cached = shown(&deaf, &token, None).await != name
            && shown(&deaf, &token, Some(Duration::seconds(50))).await != name;
        if cached {
            assert_eq!(shown(&deaf, &token, Some(short)).await, name, "the feed is older");
        }
        cached
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_kept_until_no_token_that_it_matches_can_be_in_date() {
    let longest = Duration::hours(24);
    let server =
        start_with(|settings| settings.policy.access_token_ttl = Duration::hours(24)).await;
    let mut gateway = Gateway::open(&server, "").await;
    use pb::RevocationLevel::{Device, Session, User};
    let created = server.create("ada").await;
    let (ended, stepped) = (parts(&created).0, parts(&server.create("ada").await).0);
    let of_device = server.create("bob").await.session.expect("a session");
    let device = of_device.device.expect("a device").device_id;
    server.terminate(&ended).await.expect("ok");
    server.reauthenticate(second_factor(&stepped)).await.expect("a step-up");
    let request = crate::harness::devices::revocation("bob", &device);
    server.revoke_device(request).await.expect("an end");
    let now = server.clock.now();
    for (level, subject) in [(Session, &ended), (Session, &stepped), (Device, &device)] {
        let revocation = gateway.until_told(level, subject).await;
        let (revoked, evict) = (time(revocation.revoke_time), time(revocation.evict_time));
        assert_eq!((revoked, evict), (now, now + longest), "{level:?}");
        // No token that was issued before is unexpired then.
        let last = created.tokens.as_ref().expect("tokens").access_token_expire_time;
        assert!(evict >= time(last), "{level:?}");
    }
    server.erase("ada").await.expect("an erasure");
    // printf 'default\0ada' | sha256sum
    let digest = "93af010dd8708f596294a1a840c57f11282ca7fe5e72aa6fa4adff7a34957d89";
    let revocation = gateway.until_told(User, digest).await;
    assert_eq!(time(revocation.evict_time), now + longest);
}
