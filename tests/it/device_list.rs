//! ListDevices and GetDevice: the devices listed, their order, and the callers that may see them.

use std::collections::BTreeSet;

use sessiond::grpc::pb;

use crate::harness::calls::{new_session, reason, violations};
use crate::harness::devices::on;
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, audit, start};

fn page(user: &str, size: i32, token: &str) -> pb::ListDevicesRequest {
    let (user_id, page_token) = (user.to_owned(), token.to_owned());
    pb::ListDevicesRequest { user_id, page_size: size, page_token, ..Default::default() }
}

fn with(user_agent: &str, ip: &str) -> pb::CreateSessionRequest {
    let client = pb::ClientContext {
        user_agent: user_agent.to_owned(),
        ip_address: ip.to_owned(),
        ..Default::default()
    };
    pb::CreateSessionRequest { client: Some(client), ..new_session("ada") }
}

fn chrome(version: u32) -> String {
    format!(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/{version}.0.0.0 Safari/537.36"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_updated_browser_at_another_address_is_the_same_device() {
    let server = start().await;
    let (_, first) = server.create_on(with(&chrome(130), "192.0.2.1")).await;
    server.advance(chrono::Duration::seconds(1));
    let (_, second) = server.create_on(with(&chrome(131), "2001:db8::1")).await;
    assert_eq!(first, second);
    let device = server.device("ada", &first).await;
    assert_eq!((&*device.os, &*device.browser), ("Windows", "Chrome 131"), "as it is now");
    assert_eq!(device.r#type(), pb::DeviceType::Desktop);
    assert_eq!(device.active_session_count, 2);

    let (_, other) = server.create_on(with("curl/8.10.1", "192.0.2.1")).await;
    assert_ne!(first, other);
    assert_eq!(server.devices("ada").await.len(), 2);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_which_nothing_is_known_share_a_device() {
    let server = start().await;
    let (_, first) = server.create_on(new_session("ada")).await;
    let (_, second) = server.create_on(with("", "192.0.2.1")).await;
    let (_, of_bob) = server.create_on(new_session("bob")).await;
    assert_eq!(first, second);
    assert_ne!(first, of_bob);
    let device = server.device("ada", &first).await;
    assert_eq!(device.r#type(), pb::DeviceType::Unspecified);
    assert_eq!((&*device.os, &*device.browser, &*device.display_name), ("", "", ""));
    assert_eq!((device.active_session_count, device.trusted()), (2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_id_may_be_that_of_two_users_and_is_then_two_devices() {
    let server = start().await;
    let (_, device_id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let named = pb::device_context::Identity::DeviceId(device_id.clone());
    let device = pb::DeviceContext { identity: Some(named), ..Default::default() };
    let client = pb::ClientContext { device: Some(device), ..Default::default() };
    for user in ["ada", "bob"] {
        let client = Some(client.clone());
        let (_, id) =
            server.create_on(pb::CreateSessionRequest { client, ..new_session(user) }).await;
        assert_eq!(id, device_id);
    }
    assert_eq!(server.device("ada", &device_id).await.active_session_count, 2);
    assert_eq!(server.device("bob", &device_id).await.active_session_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_newest_first_page_by_page() {
    let server = start().await;
    let mut expected = Vec::new();
    for number in 0..7 {
        // Three at one moment, ordered by id.
        server.advance(chrono::Duration::microseconds(i64::from(number > 2)));
        let (_, id) = server.create_on(on("ada", &number.to_string(), "192.0.2.1")).await;
        expected.push((server.clock.now(), id));
    }
    server.create("bob").await;
    expected.sort_by(|a, b| b.cmp(a));
    let expected: Vec<String> = expected.into_iter().map(|(_, id)| id).collect();

    for size in [1, 2, 3, 7, 8] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let answer = server.list_devices(page("ada", size, &token)).await.expect("a page");
            assert!(answer.devices.len() <= size as usize);
            seen.extend(answer.devices.into_iter().map(|device| device.device_id));
            token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected, "pages of {size}");
    }
    server.create_on(on("ada", "0", "192.0.2.9")).await;
    let devices: BTreeSet<u32> =
        server.devices("ada").await.iter().map(|device| device.active_session_count).collect();
    assert_eq!(devices, BTreeSet::from([1, 2]), "counted for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_size_or_token_that_is_none_is_refused() {
    let server = start().await;
    for number in 0..3 {
        server.create_on(on("ada", &number.to_string(), "192.0.2.1")).await;
    }
    server.create("bob").await;
    let token = server.list_devices(page("ada", 1, "")).await.expect("a page").next_page_token;
    assert_eq!(server.list_devices(page("ada", 9, &token)).await.expect("it").devices.len(), 2);
    let of_sessions = pb::ListSessionsRequest { page_size: 1, ..Default::default() };
    let of_sessions = server.list_sessions(of_sessions).await.expect("a page").next_page_token;
    let other_tenant =
        pb::ListDevicesRequest { tenant_id: "acme".to_owned(), ..page("ada", 1, &token) };
    for wrong in
        [page("bob", 1, &token), page("ada", 1, &of_sessions), page("ada", 1, "x"), other_tenant]
    {
        let refusal = server.list_devices(wrong).await.expect_err("a refusal");
        assert_eq!(
            (reason(&refusal).as_str(), violations(&refusal)),
            ("PAGE_TOKEN_INVALID", vec!["page_token".to_owned()])
        );
    }
    let refusal = server.list_devices(page("", -1, "")).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["user_id", "page_size"]);
    let refusal = server.get_device("", "x").await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["user_id", "device_id"]);
    for (asked, got) in [(0, 3), (1000, 3), (1001, 3), (i32::MAX, 3)] {
        let answer = server.list_devices(page("ada", asked, "")).await.expect("a page");
        assert_eq!((answer.devices.len(), answer.next_page_token.as_str()), (got, ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_another_tenant_or_user_answers_exactly_like_an_absent_one() {
    let server = start().await;
    let tenant_id = "acme".to_owned();
    let request = pb::CreateSessionRequest { tenant_id, ..on("ada", "print", "192.0.2.1") };
    let (_, foreign) = server.create_on(request).await;
    let (_, of_bob) = server.create_on(on("bob", "print", "192.0.2.1")).await;

    let absent = not_found(&server, NOBODY).await;
    for id in [&foreign, &of_bob] {
        assert_eq!(not_found(&server, id).await.replace(id.as_str(), NOBODY), absent);
    }
    assert_eq!(server.devices("ada").await, []);
    let request = pb::ListDevicesRequest { tenant_id: "acme".to_owned(), ..page("ada", 0, "") };
    let listed = server.list_devices(request).await.expect("a page").devices;
    assert_eq!((listed.len(), listed[0].device_id.as_str()), (1, foreign.as_str()));
}

/// The refusal to show the device to ada of the default tenant, as text.
async fn not_found(server: &TestServer, device: &str) -> String {
    use tonic_types::StatusExt;
    let refusal = server.get_device("ada", device).await.expect_err("a refusal");
    let details = refusal.get_error_details();
    let resource = details.resource_info().expect("a ResourceInfo");
    assert_eq!(resource.resource_type, "sessiond.v1.UserDevice");
    format!("{:?} {} {} {resource:?}", refusal.code(), reason(&refusal), refusal.message())
}
