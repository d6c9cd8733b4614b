//! ForgetDevice: what it deletes, what it keeps, and the effect of a repeated call.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{parts, reason, violations};
use crate::harness::creates::text;
use crate::harness::devices::{forgetting, on, set_device, update};
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, audit, start};

const REVOKED: i16 = 10;
const FORGOTTEN: i16 = 16;

async fn trust(server: &TestServer, device: &str) {
    let trusted = pb::UserDevice {
        trusted: Some(true),
        display_name: "Pixel".to_owned(),
        ..update("ada", device)
    };
    server.update_device(set_device(trusted)).await.expect("a device");
}

/// The numbers of activities of revoked and of forgotten devices.
async fn counts(server: &TestServer) -> (i64, i64) {
    (server.activities(REVOKED).await, server.activities(FORGOTTEN).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_goes_with_its_active_sessions_and_comes_back_as_a_new_one() {
    let server = start().await;
    let (first, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.create_on(on("ada", "print", "192.0.2.2")).await;
    let (elsewhere, other) = server.create_on(on("ada", "other", "192.0.2.1")).await;
    let (of_bob, _) = server.create_on(on("bob", "print", "192.0.2.1")).await;
    trust(&server, &id).await;
    let before = server.device("ada", &id).await;

    let request = pb::ForgetDeviceRequest { note: "sold".to_owned(), ..forgetting("ada", &id) };
    let done = server.forget_device(request.clone()).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (2, true));
    assert!(done.watermark.starts_with('w'));
    let gone = server.get_device("ada", &id).await.expect_err("it is forgotten");
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "DEVICE_NOT_FOUND"));
    let left: Vec<_> = server.devices("ada").await.into_iter().map(|d| d.device_id).collect();
    assert_eq!(left, [other]);
    let (first, access, _) = parts(&first);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Inactive);
    let ended = server.get(&first).await.expect("a session");
    assert_eq!((ended.end_reason(), &*ended.end_note), (pb::EndReason::DeviceRevoked, "sold"));
    assert_eq!(ended.device.expect("a device").device_id, id, "history stays");
    for session in [&elsewhere, &of_bob] {
        assert_eq!(server.validate(&parts(session).1).await.outcome(), pb::Outcome::Active);
    }
    assert_eq!(counts(&server).await, (1, 1));
    let again = server.forget_device(request).await.expect_err("it is forgotten");
    assert_eq!(reason(&again), "DEVICE_NOT_FOUND");

    server.advance(Duration::hours(1));
    let (_, back) = server.create_on(on("ada", "print", "192.0.2.3")).await;
    assert_eq!(back, id, "the same fingerprint");
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), &*device.display_name), (false, ""));
    assert_eq!((device.active_session_count, device.revoke_time), (1, None));
    assert_eq!(device.first_seen_ip_address, "192.0.2.3");
    assert_ne!(device.first_seen_time, before.first_seen_time);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_answers_the_same_and_spares_what_came_later() {
    let server = start().await;
    let (_, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let request =
        pb::ForgetDeviceRequest { request_id: NOBODY.to_owned(), ..forgetting("ada", &id) };
    let done = server.forget_device(request.clone()).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (1, true));
    let same = async || {
        let again = server.forget_device(request.clone()).await.expect("the same");
        assert_eq!((again.terminated_count, again.complete), (1, true));
    };
    same().await;
    server.advance(Duration::seconds(1));
    let (later, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    trust(&server, &id).await;
    same().await;
    assert_eq!(server.validate(&parts(&later).1).await.outcome(), pb::Outcome::Active);
    assert!(server.device("ada", &id).await.trusted(), "a late retry turns nothing back");
    assert_eq!(counts(&server).await, (1, 1));
    let other = pb::ForgetDeviceRequest { note: "x".to_owned(), ..request };
    let refusal = server.forget_device(other).await.expect_err("another body");
    assert_eq!(reason(&refusal), "REQUEST_ID_REUSED");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_sessions_are_left_and_a_session_from_meanwhile_gets_a_new_device() {
    let server = start().await;
    let (held, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    trust(&server, &id).await;
    let request =
        pb::ForgetDeviceRequest { request_id: NOBODY.to_owned(), ..forgetting("ada", &id) };
    let holder = server.db.hold("SELECT 1 FROM user_sessions FOR UPDATE").await;
    let cut_off = server.forget_device(request.clone()).await.expect("what can be done");
    assert_eq!((cut_off.terminated_count, cut_off.complete), (0, false));
    drop(holder);
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), &*device.display_name), (false, "Pixel"), "it is there still");
    server.advance(Duration::seconds(5));
    let (meanwhile, _) = server.create_on(on("ada", "print", "192.0.2.9")).await;

    let done = server.forget_device(request).await.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (1, true));
    assert_eq!(server.validate(&parts(&held).1).await.outcome(), pb::Outcome::Inactive);
    assert_eq!(server.validate(&parts(&meanwhile).1).await.outcome(), pb::Outcome::Active);
    let device = server.device("ada", &id).await;
    assert_eq!((device.trusted(), &*device.display_name), (false, ""));
    assert_eq!((device.active_session_count, device.revoke_time), (1, None));
    assert_eq!(device.first_seen_ip_address, "192.0.2.9");
    assert_eq!(counts(&server).await, (1, 1));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_device_is_not_found_and_all_violations_come_at_once() {
    let server = start().await;
    let (_, id) = server.create_on(on("bob", "print", "192.0.2.1")).await;
    let tenant_id = "acme".to_owned();
    let foreign = pb::ForgetDeviceRequest { tenant_id, ..forgetting("bob", &id) };
    for request in [forgetting("ada", &id), forgetting("bob", NOBODY), foreign] {
        let refusal = server.forget_device(request).await.expect_err("a refusal");
        assert_eq!(
            (refusal.code(), reason(&refusal).as_str()),
            (Code::NotFound, "DEVICE_NOT_FOUND")
        );
    }
    server.device("bob", &id).await;
    let wrong = pb::ForgetDeviceRequest {
        tenant_id: "a b".to_owned(),
        note: text(513),
        request_id: "x".to_owned(),
        ..forgetting("", "x")
    };
    let refusal = server.forget_device(wrong).await.expect_err("a refusal");
    let fields = ["request_id", "tenant_id", "user_id", "device_id", "note"];
    assert_eq!(violations(&refusal), fields);
}
