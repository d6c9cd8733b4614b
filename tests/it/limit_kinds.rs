//! Limits per user, client and device type: the sessions that each counts, and those that end for a new one.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::model::conflict::LimitScope;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;

use crate::harness::calls::{metadata, new_session, parts, reason};
use crate::harness::conflicts::{SCOPES, limit};
use crate::harness::{TestServer, audit, start_on, start_with};

/// Longer than a test takes, and far less than an idle timeout, so that activity is not flushed at once.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);

fn limited(scope: LimitScope, max: u32, on_limit: OnLimit) -> impl Fn(&mut Settings) {
    move |settings| {
        limit(settings, scope, max, on_limit);
        // Last activity stays unwritten during the test.
        settings.intervals.flush = LONG;
    }
}

/// A create of ada at this client, on the device with this fingerprint, of this type.
fn on(client: &str, fingerprint: &str, kind: pb::DeviceType) -> pb::CreateSessionRequest {
    let identity = pb::device_context::Identity::Fingerprint(fingerprint.to_owned());
    let device =
        pb::DeviceContext { identity: Some(identity), r#type: kind.into(), ..Default::default() };
    let context = pb::ClientContext { device: Some(device), ..Default::default() };
    let client_id = client.to_owned();
    pb::CreateSessionRequest { client_id, client: Some(context), ..new_session("ada") }
}

fn phone() -> pb::CreateSessionRequest {
    on("app", "phone", pb::DeviceType::Mobile)
}

/// A create that the limit of this kind does not count together with [`phone`].
fn uncounted(scope: LimitScope) -> pb::CreateSessionRequest {
    match scope {
        LimitScope::User => pb::CreateSessionRequest { user_id: "bob".to_owned(), ..phone() },
        LimitScope::Client => on("shop", "phone", pb::DeviceType::Mobile),
        LimitScope::DeviceType => on("app", "tv", pb::DeviceType::Tv),
    }
}

/// Creates the session, a second before the next; returns its id and access token.
async fn make(server: &TestServer, request: pb::CreateSessionRequest) -> (String, String) {
    let (id, access, _) = parts(&server.try_create(request).await.expect("a session"));
    server.advance(Duration::seconds(1));
    (id, access)
}

/// The ids of those that this create ends, sorted by creation.
async fn ended(server: &TestServer, request: pb::CreateSessionRequest) -> Vec<String> {
    let created = server.try_create(request).await.expect("room is made");
    let ended = created.terminated_sessions.into_iter();
    let mut ended: Vec<String> = ended.map(|session| session.session_id).collect();
    ended.sort();
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_its_own_sessions_and_ends_no_others() {
    for scope in SCOPES {
        let server = start_with(limited(scope, 2, OnLimit::TerminateOldest)).await;
        let (other, _) = make(&server, uncounted(scope)).await;
        let (first, _) = make(&server, phone()).await;
        let (second, _) = make(&server, phone()).await;
        assert_eq!(ended(&server, uncounted(scope)).await, [""; 0], "{scope:?}");
        assert_eq!(ended(&server, phone()).await, [first], "{scope:?}");
        for spared in [other, second] {
            let session = server.get(&spared).await.expect("a session");
            assert_eq!(session.state(), pb::SessionState::Active, "{scope:?}");
        }
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_of_those_that_count_ends_by_use_not_written_yet() {
    for scope in SCOPES {
        let change = limited(scope, 3, OnLimit::TerminateLeastRecentlyUsed);
        let server = start_with(change).await;
        make(&server, uncounted(scope)).await;
        let mut made = Vec::new();
        for _ in 0..3 {
            made.push(make(&server, phone()).await);
        }
        for i in [1, 2, 0] {
            server.validate(&made[i].1).await;
            server.advance(Duration::seconds(1));
        }
        assert_eq!(ended(&server, phone()).await, [made[1].0.clone()], "{scope:?}");
        assert_eq!(ended(&server, phone()).await, [made[2].0.clone()], "{scope:?}");
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_same_device_the_least_recently_used_ends_and_without_one_the_create_is_refused() {
    for scope in SCOPES {
        let server = start_with(limited(scope, 3, OnLimit::TerminateSameDevice)).await;
        make(&server, uncounted(scope)).await;
        let tablet = || on("app", "tablet", pb::DeviceType::Mobile);
        make(&server, tablet()).await;
        let (used, access) = make(&server, phone()).await;
        let (unused, _) = make(&server, phone()).await;
        server.validate(&access).await;
        server.advance(Duration::seconds(1));

        let third = on("app", "third", pb::DeviceType::Mobile);
        let status = server.try_create(third).await.expect_err("no session on this device");
        assert_eq!(reason(&status), "SESSION_LIMIT_REACHED");
        assert_eq!(metadata(&status, "scope").as_deref(), Some(scope.name()));
        assert!(status.message().contains("no failed login"), "{status:?}");
        assert_eq!(server.activities(3).await, 0, "nothing ends");

        assert_eq!(ended(&server, phone()).await, [unused], "{scope:?}");
        assert_eq!(ended(&server, phone()).await, [used], "{scope:?}");
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_limit_ends_at_the_next_create_as_many_as_are_too_many() {
    let strategies = [
        OnLimit::TerminateOldest,
        OnLimit::TerminateLeastRecentlyUsed,
        OnLimit::TerminateSameDevice,
    ];
    for (scope, on_limit) in SCOPES.into_iter().flat_map(|s| strategies.map(|on| (s, on))) {
        let server = start_with(limited(scope, 5, on_limit)).await;
        make(&server, uncounted(scope)).await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(make(&server, phone()).await.0);
        }
        let (db, clock) = server.stop().await;
        let server = start_on(db, clock, limited(scope, 2, on_limit)).await;
        assert_eq!(server.activities(3).await, 0, "not before");
        assert_eq!(ended(&server, phone()).await, made[..4], "{scope:?} {on_limit:?}");
        assert_eq!(server.activities(3).await, 4);
        audit::check(&server.db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_limits_hold_together_and_if_one_refuses_nothing_ends() {
    let server = start_with(|settings| {
        limit(settings, LimitScope::User, 3, OnLimit::TerminateOldest);
        limit(settings, LimitScope::Client, 2, OnLimit::TerminateLeastRecentlyUsed);
        limit(settings, LimitScope::DeviceType, 1, OnLimit::Reject);
    })
    .await;
    let web = |client: &str| on(client, "laptop", pb::DeviceType::Web);
    let (first, _) = make(&server, web("shop")).await;
    let (phone_id, _) = make(&server, phone()).await;
    let (app, _) = make(&server, web("app")).await;

    let second = on("shop", "phone", pb::DeviceType::Mobile);
    let status = server.try_create(second).await.expect_err("one phone is the limit");
    assert_eq!(metadata(&status, "scope").as_deref(), Some("device_type"));
    assert_eq!(server.activities(3).await, 0, "the oldest stays");
    // The user's limit ends the oldest, then the client's the least recently used.
    assert_eq!(ended(&server, web("app")).await, [first, phone_id]);
    assert_eq!(server.list("ada").await.iter().filter(|s| s.end_time.is_none()).count(), 2);
    assert_eq!(server.get(&app).await.expect("a session").state(), pb::SessionState::Active);
    audit::check(&server.db).await;
}
