//! RevokeDevice: exactly the sessions on the device end, and its trust is removed.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{parts, reason, violations};
use crate::harness::creates::text;
use crate::harness::devices::{device_of, on, revocation, set_device, update};
use crate::harness::requests::{NOBODY, stamp};
use crate::harness::{TestServer, audit, start};

const REVOKED: i16 = 10;

async fn trust(server: &TestServer, user: &str, device: &str) {
    let request = set_device(pb::UserDevice {
        trusted: Some(true),
        display_name: "Pixel".to_owned(),
        ..update(user, device)
    });
    assert!(server.update_device(request).await.expect("a device").trusted());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_the_sessions_on_the_device_and_forgets_its_trust() {
    let server = start().await;
    let (first, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.create_on(on("ada", "print", "192.0.2.2")).await;
    let (elsewhere, other) = server.create_on(on("ada", "other", "192.0.2.1")).await;
    let (of_bob, _) = server.create_on(on("bob", "print", "192.0.2.1")).await;
    trust(&server, "ada", &id).await;
    trust(&server, "ada", &other).await;
    server.advance(Duration::seconds(1));

    let request = pb::RevokeDeviceRequest { note: "Lost.".to_owned(), ..revocation("ada", &id) };
    let done = server.revoke_device(request).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (2, true));
    let ended = server.get(&parts(&first).0).await.expect("a session");
    assert_eq!(
        (ended.end_reason(), ended.end_note.as_str()),
        (pb::EndReason::DeviceRevoked, "Lost.")
    );
    assert_eq!(server.validate(&parts(&first).1).await.outcome(), pb::Outcome::Inactive);
    for spared in [&elsewhere, &of_bob] {
        assert_eq!(server.validate(&parts(spared).1).await.outcome(), pb::Outcome::Active);
    }
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), device.active_session_count), (false, 0));
    assert_eq!(
        (device.display_name.as_str(), device.revoke_time),
        ("Pixel", stamp(server.clock.now()))
    );
    assert!(server.device("ada", &other).await.trusted());
    assert_eq!((server.activities(REVOKED).await, server.activities(3).await), (1, 2));

    server.advance(Duration::seconds(1));
    let (again, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    assert_eq!(server.validate(&parts(&again).1).await.outcome(), pb::Outcome::Active);
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), device.active_session_count), (false, 1), "a log-in is no trust");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_revocation_counts_the_same_and_spares_later_sessions() {
    let server = start().await;
    let (_, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.create_on(on("ada", "print", "192.0.2.1")).await;
    let request =
        pb::RevokeDeviceRequest { request_id: NOBODY.to_owned(), ..revocation("ada", &id) };
    let done = server.revoke_device(request.clone()).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (2, true));
    let same = async || {
        let again = server.revoke_device(request.clone()).await.expect("the same");
        assert_eq!((again.terminated_count, again.complete), (2, true));
    };
    server.advance(Duration::seconds(1));
    let (later, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    trust(&server, "ada", &id).await;
    same().await;
    assert_eq!(server.validate(&parts(&later).1).await.outcome(), pb::Outcome::Active);
    assert!(server.device("ada", &id).await.trusted(), "a late retry turns nothing back");
    assert_eq!(server.activities(REVOKED).await, 1);

    let once_more = server.revoke_device(revocation("ada", &id)).await.expect("an end");
    assert_eq!(once_more.terminated_count, 1);
    same().await;
    let other = pb::RevokeDeviceRequest { note: "x".to_owned(), ..request };
    let refusal = server.revoke_device(other).await.expect_err("another body");
    assert_eq!(reason(&refusal), "REQUEST_ID_REUSED");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_of_two_replicas_that_revoke_at_once_for_one_request_count_all() {
    let server = start().await;
    let replica = server.replica().await;
    for round in 0..12 {
        let user = format!("user-{round}");
        let (_, id) = server.create_on(on(&user, "print", "192.0.2.1")).await;
        for _ in 1..5 {
            server.create_on(on(&user, "print", "192.0.2.1")).await;
        }
        let request_id = server.ids(1).remove(0);
        let request = pb::RevokeDeviceRequest { request_id, ..revocation(&user, &id) };
        let both = [&server, &replica].map(|at| at.revoke_device(request.clone()));
        for done in futures_util::future::join_all(both).await {
            let done = done.expect("an end");
            assert_eq!((done.terminated_count, done.complete), (5, true), "{user}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revocation_left_over_ends_when_it_is_repeated() {
    let server = start().await;
    let (created, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    trust(&server, "ada", &id).await;
    let body = pb::RevokeDeviceRequest { request_id: NOBODY.to_owned(), ..revocation("ada", &id) };
    // The session began while the clock was ahead, and its row is locked.
    server.advance(-Duration::hours(1));
    let holder = server.db.hold("SELECT 1 FROM user_sessions FOR UPDATE").await;
    let cut_off = server.revoke_device(body.clone()).await.expect("what can be done");
    assert_eq!((cut_off.terminated_count, cut_off.complete), (0, false));
    drop(holder);
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), device.active_session_count), (false, 1), "the trust went first");
    assert_eq!((server.activities(REVOKED).await, server.activities(3).await), (1, 0));
    assert_eq!(server.validate(&parts(&created).1).await.outcome(), pb::Outcome::Active);
    let done = server.revoke_device(body).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (1, true));
    assert_eq!((server.activities(REVOKED).await, server.activities(3).await), (1, 1));
    assert_eq!(server.validate(&parts(&created).1).await.outcome(), pb::Outcome::Inactive);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_during_a_revocation_come_out_on_one_side() {
    let server = start().await;
    let (before, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    trust(&server, "ada", &id).await;
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut client = server.sessions();
        creates.spawn(async move {
            let created = client.create_session(on("ada", "print", "192.0.2.1")).await;
            created.expect("a session").into_inner()
        });
    }
    let done = server.revoke_device(revocation("ada", &id)).await.expect("an end");
    assert!(done.complete);
    let created = creates.join_all().await;
    assert_eq!(created.len(), 16);
    let mut ended = 0;
    for session in created.iter().chain([&before]) {
        assert_eq!(device_of(&session.session), id);
        let (session_id, access, refresh) = parts(session);
        let outcome = server.validate(&access).await.outcome();
        match server.get(&session_id).await.expect("a session").end_reason() {
            pb::EndReason::Unspecified => {
                assert_eq!(outcome, pb::Outcome::Active);
                server.refresh(&refresh).await.expect("a successor");
            }
            reason => {
                assert_eq!(
                    (reason, outcome),
                    (pb::EndReason::DeviceRevoked, pb::Outcome::Inactive)
                );
                server.refresh(&refresh).await.expect_err("it has ended");
                ended += 1;
            }
        }
    }
    assert_eq!(server.validate(&parts(&before).1).await.outcome(), pb::Outcome::Inactive);
    assert_eq!(done.terminated_count, ended);
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), u64::from(device.active_session_count)), (false, 17 - ended));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_device_cannot_be_revoked_and_limits_are_told() {
    let server = start().await;
    let (created, id) = server.create_on(on("bob", "print", "192.0.2.1")).await;
    let tenant_id = "acme".to_owned();
    let foreign = pb::RevokeDeviceRequest { tenant_id, ..revocation("bob", &id) };
    for request in [revocation("ada", &id), revocation("bob", NOBODY), foreign] {
        let refusal = server.revoke_device(request).await.expect_err("a refusal");
        assert_eq!(
            (refusal.code(), reason(&refusal).as_str()),
            (Code::NotFound, "DEVICE_NOT_FOUND")
        );
    }
    assert_eq!(server.validate(&parts(&created).1).await.outcome(), pb::Outcome::Active);
    let note = |length| pb::RevokeDeviceRequest { note: text(length), ..revocation("bob", &id) };
    let refusal = server.revoke_device(note(513)).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["note"]);
    assert_eq!(server.revoke_device(note(512)).await.expect("an end").terminated_count, 1);
    let refusal = server.revoke_device(revocation("", "x")).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["user_id", "device_id"]);
}
