//! Concurrent writes of a device, and a device with more sessions than one call reads or writes.

use chrono::Duration;
use sessiond::grpc::pb;
use tokio::task::JoinSet;

use crate::harness::calls::parts;
use crate::harness::creates::text;
use crate::harness::devices::{on, revocation, set_device, set_session, update};
use crate::harness::{audit, start, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn creates_refreshes_ends_and_updates_on_one_device_all_succeed() {
    let server = start_with(|settings| settings.policy.limits.user.max = 12).await;
    let mut tokens = Vec::new();
    let mut device_id = String::new();
    for number in 0..8 {
        let (created, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
        tokens.push((number, parts(&created)));
        device_id = id;
    }
    let mut calls: JoinSet<Result<(), tonic::Status>> = JoinSet::new();
    for (number, (session_id, _, refresh_token)) in tokens {
        server.advance(Duration::milliseconds(1));
        let clients = || server.sessions();
        let (mut client, ip_address) = (clients(), format!("192.0.2.{number}"));
        let moved = pb::ClientContext { ip_address, ..Default::default() };
        let request = pb::RefreshSessionRequest { refresh_token, client: Some(moved) };
        calls.spawn(async move { client.refresh_session(request).await.map(drop) });

        let mut client = clients();
        let display_name = format!("name {number}");
        let request = set_device(pb::UserDevice { display_name, ..update("ada", &device_id) });
        calls.spawn(async move { client.update_device(request).await.map(drop) });

        let mut client = clients();
        let device_display_name = format!("other {number}");
        let request = set_session(pb::Session {
            session_id,
            device: Some(pb::Device { display_name: device_display_name, ..Default::default() }),
            ..Default::default()
        });
        calls.spawn(async move { client.update_session(request).await.map(drop) });

        let (mut client, address) = (clients(), format!("198.51.100.{number}"));
        let request = on("ada", "print", &address);
        calls.spawn(async move { client.create_session(request).await.map(drop) });
    }
    let mut refused = 0;
    for answer in calls.join_all().await {
        // From the ninth of twelve creates the user is at the limit; no other error is allowed.
        if let Err(status) = answer {
            assert_eq!(crate::harness::calls::reason(&status), "SESSION_LIMIT_REACHED");
            refused += 1;
        }
    }
    assert_eq!(refused, 4);
    assert_eq!(server.device("ada", &device_id).await.active_session_count, 12);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_lags_turns_nothing_back() {
    let server = start().await;
    server.create_on(on("ada", "print", "192.0.2.1")).await;
    server.advance(Duration::seconds(10));
    let mut newest = on("ada", "print", "192.0.2.2");
    let device = newest.client.as_mut().and_then(|client| client.device.as_mut());
    device.expect("a device").platform = "iOS 18.1".to_owned();
    let (_, id) = server.create_on(newest).await;
    let known = server.device("ada", &id).await;

    server.advance(Duration::seconds(-5));
    let mut late = on("ada", "print", "192.0.2.3");
    let device = late.client.as_mut().and_then(|client| client.device.as_mut());
    device.expect("a device").platform = "iOS 17".to_owned();
    let (late, _) = server.create_on(late).await;
    server.terminate(&parts(&late).0).await.expect("ok");
    assert_eq!(server.device("ada", &id).await, known);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_many_sessions_is_read_named_and_revoked_whole() {
    const MANY: usize = 20_000;
    let server = start().await;
    let (first, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let first = parts(&first).0;
    server.copy_session(&first, &server.ids(MANY - 1)).await;
    let count = async || server.device("ada", &id).await.active_session_count as usize;
    assert_eq!(count().await, MANY);

    let request = set_device(pb::UserDevice { display_name: text(128), ..update("ada", &id) });
    server.update_device(request).await.expect("a device");
    let named = server.list("ada").await;
    assert_eq!(named.len(), 1000);
    for session in named {
        assert_eq!(session.device.expect("a device").display_name, text(128), "the newest show it");
    }
    // An update of the oldest session returns the new name too.
    let request = set_session(pb::Session {
        session_id: first.clone(),
        device: Some(pb::Device { display_name: "Kitchen".to_owned(), ..Default::default() }),
        ..Default::default()
    });
    let updated = server.update_session(request).await.expect("a session");
    assert_eq!(updated.device.expect("a device").display_name, "Kitchen");

    let done = server.revoke_device(revocation("ada", &id)).await.expect("an end");
    assert_eq!((done.terminated_count as usize, done.complete), (MANY, true));
    assert_eq!(count().await, 0);
}
