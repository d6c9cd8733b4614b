//! TerminateSessions: the sessions that a filter ends and spares, and the answer of a dry run.

use std::time::Duration as StdDuration;

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts};
use crate::harness::requests::stamp;
use crate::harness::{TestServer, audit, start, start_with};

const NEVER: StdDuration = StdDuration::from_secs(86_400);

fn of(filter: pb::SessionFilter) -> pb::TerminateSessionsRequest {
    pb::TerminateSessionsRequest { filter: Some(filter), ..Default::default() }
}

fn of_user(user: &str) -> pb::TerminateSessionsRequest {
    of(pb::SessionFilter { user_id: user.to_owned(), ..Default::default() })
}

/// The users with an active session in a tenant, in alphabetical order.
async fn active(server: &TestServer, tenant: &str) -> Vec<String> {
    let state = pb::SessionState::Active.into();
    let request = pb::ListSessionsRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(pb::SessionFilter { state, ..Default::default() }),
        ..Default::default()
    };
    let sessions = server.list_sessions(request).await.expect("a page").sessions;
    let mut users: Vec<String> = sessions.into_iter().map(|session| session.user_id).collect();
    users.sort();
    users
}

/// Creates a session that differs from another user's in each field of a filter.
async fn create_in(server: &TestServer, tenant: &str, user: &str, net: &str) -> pb::Session {
    let kind = if user == "ada" { pb::DeviceType::Tv } else { pb::DeviceType::Mobile };
    let device = pb::DeviceContext { r#type: kind.into(), ..Default::default() };
    let client = pb::ClientContext {
        ip_address: format!("{net}.1"),
        device: Some(device),
        ..Default::default()
    };
    let request = pb::CreateSessionRequest {
        tenant_id: tenant.to_owned(),
        client_id: format!("app of {user}"),
        client: Some(client),
        ..new_session(user)
    };
    server.try_create(request).await.expect("a session").session.expect("a session")
}

type Narrow = fn(&mut pb::SessionFilter, &pb::Session, &pb::Session);

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_the_filter_ends_what_it_selects_as_the_dry_run_said() {
    let server = start().await;
    let cases: [(&str, Narrow); 10] = [
        ("user", |filter, ada, _| filter.user_id = ada.user_id.clone()),
        ("device", |filter, ada, _| {
            filter.device_id = ada.device.clone().expect("a device").device_id;
        }),
        ("client", |filter, ada, _| filter.client_id = ada.client_id.clone()),
        ("type", |filter, _, _| filter.device_type = pb::DeviceType::Tv.into()),
        ("net", |filter, _, _| filter.ip_prefix = "192.0.2.0/24".to_owned()),
        ("address", |filter, ada, _| filter.ip_prefix = ada.ip_address.clone()),
        ("created before", |filter, _, bob| filter.created_before_time = bob.create_time),
        ("created from", |filter, ada, bob| {
            filter.created_after_time = ada.create_time;
            filter.created_before_time = bob.create_time;
        }),
        ("active before", |filter, _, bob| filter.last_active_before_time = bob.last_active_time),
        ("active from", |filter, ada, bob| {
            filter.last_active_after_time = ada.last_active_time;
            filter.last_active_before_time = bob.last_active_time;
        }),
    ];
    for (number, (name, narrow)) in cases.into_iter().enumerate() {
        let tenant = format!("tenant-{number}");
        let ada = create_in(&server, &tenant, "ada", "192.0.2").await;
        server.advance(Duration::microseconds(1));
        let bob = create_in(&server, &tenant, "bob", "192.0.3").await;
        let mut filter = pb::SessionFilter::default();
        narrow(&mut filter, &ada, &bob);
        let real = pb::TerminateSessionsRequest { tenant_id: tenant.clone(), ..of(filter) };
        let dry = pb::TerminateSessionsRequest { dry_run: true, ..real.clone() };

        let said = server.terminate_many(dry).await.expect("a dry run");
        assert_eq!((said.terminated_count, said.complete), (1, true), "{name}");
        assert_eq!(said.sample, std::slice::from_ref(&ada), "{name}");
        assert_eq!(active(&server, &tenant).await, ["ada", "bob"], "{name}");

        let done = server.terminate_many(real.clone()).await.expect("an end");
        assert_eq!((done.terminated_count, done.complete), (1, true), "{name}");
        assert_eq!(done.sample[0].session_id, ada.session_id, "{name}");
        assert_eq!(active(&server, &tenant).await, ["bob"], "{name}");
        let again = server.terminate_many(real).await.expect("nothing left");
        assert_eq!((again.terminated_count, again.sample.len(), again.complete), (0, 0, true));
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_this_session_ends_with_reason_and_note() {
    let server = start().await;
    let (kept, kept_access, _) = parts(&server.create("ada").await);
    let (first, access, _) = parts(&server.create("ada").await);
    let (second, ..) = parts(&server.create("ada").await);
    server.create("bob").await;
    let request = pb::TerminateSessionsRequest {
        except_session_id: kept.clone(),
        reason: pb::EndReason::CredentialChanged.into(),
        note: "New password.\nOn the laptop.".to_owned(),
        ..of_user("ada")
    };
    let dry = pb::TerminateSessionsRequest { dry_run: true, ..request.clone() };
    assert_eq!(server.terminate_many(dry).await.expect("a dry run").terminated_count, 2);
    let done = server.terminate_many(request).await.expect("an end");
    let ids: Vec<&str> = done.sample.iter().map(|session| session.session_id.as_str()).collect();
    assert_eq!((done.terminated_count, ids), (2, vec![second.as_str(), first.as_str()]));
    for session in &done.sample {
        assert_eq!(session.end_reason(), pb::EndReason::CredentialChanged);
        assert_eq!(session.end_note, "New password.\nOn the laptop.");
        assert_eq!(session.terminated_by, "anonymous");
        assert_eq!(server.get(&session.session_id).await.expect("a session"), *session);
    }
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Inactive);
    assert_eq!(server.validate(&kept_access).await.outcome(), pb::Outcome::Active);
    assert_eq!(active(&server, "").await, ["ada", "bob"]);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_tenant_ends_only_if_it_is_said() {
    let server = start().await;
    for user in ["ada", "bob"] {
        create_in(&server, "acme", user, "192.0.2").await;
        create_in(&server, "", user, "192.0.2").await;
    }
    let request = pb::TerminateSessionsRequest {
        tenant_id: "acme".to_owned(),
        whole_tenant: true,
        ..Default::default()
    };
    let done = server.terminate_many(request).await.expect("an end");
    assert_eq!(done.terminated_count, 2);
    assert_eq!(active(&server, "acme").await, Vec::<String>::new());
    assert_eq!(active(&server, "").await, ["ada", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_stays_and_what_has_expired_is_written_down_uncounted() {
    let server = start_with(|settings| settings.intervals.sweep = NEVER).await;
    let (ended, ..) = parts(&server.create("ada").await);
    let before = server.terminate(&ended).await.expect("ok").expect("the session");
    let (late, ..) = parts(&server.create("ada").await);
    server.advance(Duration::hours(1));
    let (alive, ..) = parts(&server.create("ada").await);

    let dry = pb::TerminateSessionsRequest { dry_run: true, ..of_user("ada") };
    assert_eq!(server.terminate_many(dry).await.expect("a dry run").terminated_count, 1);
    let done = server.terminate_many(of_user("ada")).await.expect("an end");
    assert_eq!((done.terminated_count, done.sample.len()), (1, 1));
    assert_eq!(done.sample[0].session_id, alive);
    assert_eq!(server.get(&ended).await.expect("a session"), before);
    let late = server.get(&late).await.expect("a session");
    assert_eq!(late.end_reason(), pb::EndReason::IdleTimeout);
    assert_eq!((server.activities(3).await, server.activities(4).await), (2, 1));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_that_is_not_written_yet_counts() {
    let server = start_with(|settings| {
        settings.policy.access_token_ttl = Duration::hours(12);
        (settings.intervals.flush, settings.intervals.sweep) = (NEVER, NEVER);
    })
    .await;
    let (id, access, _) = parts(&server.create("ada").await);
    server.advance(Duration::minutes(50));
    let used = server.clock.now();
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    let idle = pb::SessionFilter { last_active_before_time: stamp(used), ..Default::default() };
    let done = server.terminate_many(of(idle)).await.expect("ok");
    assert_eq!(done.terminated_count, 0, "it was active since");

    server.advance(Duration::minutes(20));
    let done = server.terminate_many(of_user("ada")).await.expect("an end");
    assert_eq!((done.terminated_count, done.sample[0].end_reason()), (1, pb::EndReason::Logout));
    assert_eq!(done.sample[0].session_id, id);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Inactive);
    audit::check(&server.db).await;
}
