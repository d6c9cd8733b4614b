//! Pages of large items: a client with the default limit of 4 MiB a message can read every page.

use std::collections::{BTreeMap, BTreeSet};

use sessiond::grpc::pb;

use crate::harness::calls::new_session;
use crate::harness::creates::text;
use crate::harness::devices::{on, set_device, update};
use crate::harness::{TestServer, start};

/// Metadata of 4096 bytes, the most allowed.
fn full() -> BTreeMap<String, String> {
    (0..8).map(|i| (format!("k{i}"), "v".repeat(510))).collect()
}

/// Reads pages of 1000 and returns the name of each item, in order; the first page must be shortened.
async fn follow(
    mut page: impl AsyncFnMut(String) -> (Vec<String>, String),
    count: usize,
) -> Vec<String> {
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let (names, next) = page(token).await;
        assert!(!names.is_empty(), "no page is empty");
        assert!(names.len() < count.min(1000), "they are not large enough");
        seen.extend(names);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "each once");
    assert_eq!(seen.len(), count);
    seen
}

fn newest_first(names: &[String]) -> bool {
    names.is_sorted_by(|a, b| a >= b)
}

async fn activities(server: &TestServer) -> Vec<String> {
    let page = async |page_token| {
        let request =
            pb::ListActivitiesRequest { page_size: 1000, page_token, ..Default::default() };
        let page = server.sessions().list_activities(request).await.expect("a page").into_inner();
        let names = page.activities.into_iter().map(|activity| activity.activity_id).collect();
        (names, page.next_page_token)
    };
    follow(page, 1200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_activities_come_in_pages_that_can_be_read() {
    let server = start().await;
    let report = pb::ReportedActivity {
        user_id: "ada".to_owned(),
        kind: pb::ActivityKind::ApiRequest.into(),
        success: Some(true),
        metadata: full(),
        ..Default::default()
    };
    for _ in 0..12 {
        let request = pb::RecordActivitiesRequest {
            activities: vec![report.clone(); 100],
            ..Default::default()
        };
        server.sessions().record_activities(request).await.expect("activities");
        server.advance(chrono::Duration::milliseconds(2));
    }
    activities(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_sessions_come_in_pages_that_can_be_read() {
    let server = start().await;
    let request = pb::CreateSessionRequest {
        metadata: full(),
        scope: "s".repeat(1024),
        ..new_session("ada")
    };
    let id = server.try_create(request).await.expect("a session").session.expect("a session");
    server.copy_session(&id.session_id, &server.ids(1499)).await;
    let page = async |page_token| {
        let request = pb::ListSessionsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = server.list_sessions(request).await.expect("a page");
        let names = page.sessions.into_iter().map(|session| session.session_id).collect();
        (names, page.next_page_token)
    };
    assert!(newest_first(&follow(page, 1500).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_alerts_come_in_pages_that_can_be_read() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    let notes = "UPDATE security_alerts SET notes = (
        SELECT json_agg(json_build_object('at', t, 'by', 'x', 'text', repeat('😀', 1000)))
        FROM generate_series(1, 100), (SELECT '2026-03-14T12:00:00Z' AS t) fixed)";
    server.meddle(notes).await;
    server.copy_alert(&alert.alert_id, &server.ids(19)).await;
    let page = async |page_token| {
        let request = pb::ListAlertsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = server.list_alerts(request).await.expect("a page");
        assert!(page.alerts.iter().all(|alert| alert.notes.len() == 100));
        let names = page.alerts.into_iter().map(|alert| alert.alert_id).collect();
        (names, page.next_page_token)
    };
    assert!(newest_first(&follow(page, 20).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_with_long_names_come_in_pages_that_can_be_read() {
    let server = start().await;
    let mut request = on("ada", "print", "192.0.2.1");
    let client = request.client.as_mut().expect("a client");
    client.user_agent = "x".repeat(512);
    let stated = client.device.as_mut().expect("a device");
    let long = |count: usize| text(count).replace(|_| true, "😀");
    (stated.platform, stated.app_version) = (long(64), long(64));
    client.location = Some(pb::Location {
        country_code: "AT".to_owned(),
        region: long(128),
        city: long(128),
        ..Default::default()
    });
    let (_, id) = server.create_on(request).await;
    let named = pb::UserDevice { display_name: long(128), ..update("ada", &id) };
    server.update_device(set_device(named)).await.expect("a device");
    let copies = "INSERT INTO devices SELECT (json_populate_record(d, json_build_object(
        'device_id', gen_random_uuid()))).* FROM devices d, generate_series(1, 1499)";
    server.meddle(copies).await;
    let page = async |page_token| {
        let request = pb::ListDevicesRequest {
            user_id: "ada".to_owned(),
            page_size: 1000,
            page_token,
            ..Default::default()
        };
        let page = server.list_devices(request).await.expect("a page");
        let names = page.devices.into_iter().map(|device| device.device_id).collect();
        (names, page.next_page_token)
    };
    follow(page, 1500).await;
}
