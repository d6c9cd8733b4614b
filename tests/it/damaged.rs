//! A damaged row is skipped by reads of many rows, and blocks no other user: a row with invalid content, and a row
//! whose columns the driver cannot decode.

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::server::Settings;
use tonic::Code;

use crate::harness::calls::{new_session, parts};
use crate::harness::devices::{revocation, set_device, update};
use crate::harness::policies::{level, set};
use crate::harness::requests::length;
use crate::harness::scrape::with_port;
use crate::harness::{TestServer, start, start_with, wait};
use crate::poison::users_of;
use crate::watch_revocations::Gateway;

/// Assignments in `user_sessions`, each of which damages a row.
const DAMAGES: [&str; 12] = [
    "device = '{\"name\": 7}'",
    "audiences = '{NULL}'",
    "step_up_at = 'infinity'",
    "rotated_at = 'infinity'",
    "last_active_at = 'infinity'",
    "absolute_expires_at = 'infinity'",
    // Values that the driver decodes, but that overflow in sums.
    "idle_timeout = '290000 years'",
    "idle_timeout = '170000000 years'",
    "last_active_at = '262142-12-31 23:59:59.9'",
    "last_active_at = '4000-01-01 BC'",
    "renewed_at = '20000-01-01'",
    "created_at = '4000-01-01 BC'",
];

async fn damage(server: &TestServer, user: &str, set: &str) {
    server.meddle(&format!("UPDATE user_sessions SET {set} WHERE user_id = '{user}'")).await;
}

/// Creates a session of ada, of bob and of a user for each way to damage one; returns the damaged users.
async fn damaged(server: &TestServer) -> Vec<String> {
    server.create("ada").await;
    let mut users = Vec::new();
    for (n, set) in DAMAGES.iter().enumerate() {
        let user = format!("damaged-{n:02}");
        server.create(&user).await;
        damage(server, &user, set).await;
        users.push(user);
    }
    server.create("bob").await;
    users
}

fn unswept(settings: &mut Settings) {
    with_port(settings);
    settings.intervals.sweep = std::time::Duration::from_secs(86_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_listed_on_pages_of_any_size() {
    let server = start().await;
    damaged(&server).await;
    for page_size in [1, 3, 50] {
        let (mut users, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListSessionsRequest { page_size, page_token, ..Default::default() };
            let page = server.list_sessions(request).await.expect("a page");
            users.extend(page.sessions.into_iter().map(|session| session.user_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(users, ["bob", "ada"], "{page_size} a page");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_expire_though_damaged_ones_are_due_first() {
    let server = start().await;
    let users = damaged(&server).await;
    let due = "UPDATE user_sessions SET sweep_at = created_at WHERE user_id LIKE 'damaged-%'";
    server.meddle(due).await;
    server.advance(Duration::hours(2));
    wait::until(async || users_of(&server, "state = 3").await == ["ada", "bob"]).await;
    assert_eq!(users_of(&server, "state = 1").await, users);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_expire_behind_thousands_of_damaged_ones() {
    let server = start().await;
    let (id, ..) = parts(&server.create("damaged").await);
    server.copy_session(&id, &server.ids(2500)).await;
    server.create("ada").await;
    let damage = "UPDATE user_sessions SET audiences = '{NULL}', sweep_at = created_at
        WHERE user_id = 'damaged'";
    server.meddle(damage).await;
    server.advance(Duration::hours(2));
    wait::until(async || users_of(&server, "state = 3").await == ["ada"]).await;
    assert_eq!(users_of(&server, "state = 1").await, ["damaged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_held_to_a_policy_which_is_not_complete_then_nor_tried_for_ever() {
    let server = start_with(unswept).await;
    damaged(&server).await;
    server.advance(Duration::minutes(20));
    let ten = length(Duration::minutes(10));
    let stricter = set(pb::Policy { absolute_timeout: ten, ..level("") });
    let done = server.try_update(stricter).await.expect("a change");
    assert_eq!((done.terminated_count, done.complete), (2, false));
    assert_eq!(users_of(&server, "state <> 1").await, ["ada", "bob"]);
    let due = "SELECT count(*) FROM policies WHERE apply_at IS NOT NULL";
    wait::until(async || {
        server.advance(Duration::seconds(31));
        server.db.count(due).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_terminated_and_what_stays_is_said() {
    let server = start().await;
    let users = damaged(&server).await;
    let request_id = server.ids(1).remove(0);
    let all = pb::SessionFilter { client_id: "web".to_owned(), ..Default::default() };
    let all = pb::TerminateSessionsRequest { filter: Some(all), request_id, ..Default::default() };
    let failed = server.terminate_many(all).await.expect_err("some are left");
    assert_eq!(failed.code(), Code::Internal);
    assert_eq!(users_of(&server, "state = 1").await, users);
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_a_user_with_a_damaged_session_are_shown_and_named() {
    for set in DAMAGES {
        let server = start().await;
        let (_, device) = server.create_on(new_session("ada")).await;
        damage(&server, "ada", set).await;
        server.create_on(new_session("ada")).await;
        assert_eq!(server.devices("ada").await.len(), 1, "{set}");
        let request = set_device(pb::UserDevice {
            display_name: "Desk".to_owned(),
            ..update("ada", &device)
        });
        server.update_device(request).await.expect("a device");
        let shown = server.list("ada").await;
        assert_eq!(shown.len(), 1, "{set}");
        assert_eq!(shown[0].device.as_ref().expect("a device").display_name, "Desk", "{set}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_damaged_session_is_erased_and_begins_anew() {
    let server = start_with(|settings| settings.policy.limits.user.max = 1).await;
    for user in damaged(&server).await {
        let refused = server.try_create(new_session(&user)).await.expect_err("nobody can count");
        assert_eq!(refused.code(), Code::Internal, "{user}");
        let erased = server.erase(&user).await.expect("an erasure");
        assert_eq!((erased.sessions_deleted, erased.complete), (1, true), "{user}");
        server.create(&user).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_activities_and_alerts_and_devices_are_listed() {
    let server = start().await;
    let (session, ..) = parts(&server.create("ada").await);
    server.step_up(&session).await;
    server.steal_from("ada").await;
    server.steal_from("ada").await;
    let activities = async |page_size| {
        let (mut found, mut page_token) = (0, String::new());
        loop {
            let request = pb::ListActivitiesRequest { page_size, page_token, ..Default::default() };
            let page = server.sessions().list_activities(request).await.expect("a page");
            let page = page.into_inner();
            found += page.activities.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    };
    let before = activities(50).await;
    let damages = [
        "location = '7'",
        "metadata = '1e400'",
        "latency = '170000000 years'",
        "occurred_at = 'infinity'",
        "occurred_at = '262142-12-31 23:59:59.9'",
    ];
    for set in damages {
        server
            .meddle(&format!(
                "UPDATE session_activities SET {set} WHERE activity_id =
                (SELECT activity_id FROM session_activities WHERE occurred_at < '9999-01-01' AND tenant_id = 'default'
                    AND location IS NULL AND metadata IS DISTINCT FROM '1e400' AND latency IS NULL
                ORDER BY occurred_at LIMIT 1)"
            ))
            .await;
    }
    assert_eq!((activities(50).await, activities(1).await), (before - 5, before - 5));

    for set in ["notes = '7'", "acknowledged_at = 'infinity'"] {
        let all = server.alerts_of("ada").await.len();
        server
            .meddle(&format!(
                "UPDATE security_alerts SET {set} WHERE alert_id =
                (SELECT alert_id FROM security_alerts WHERE notes <> '7' LIMIT 1)"
            ))
            .await;
        assert_eq!(server.alerts_of("ada").await.len(), all - 1, "{set}");
    }
    let request = pb::ListAlertsRequest { page_size: 1, ..Default::default() };
    server.list_alerts(request).await.expect("a page");

    server.meddle("UPDATE devices SET last_seen_at = 'infinity' WHERE user_id = 'ada'").await;
    assert_eq!(server.devices("ada").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_device_keeps_its_sessions_no_longer() {
    let server = start().await;
    for (n, set) in
        ["last_seen_at = 'infinity'", "details = '3'", "revision = 2147483647"].iter().enumerate()
    {
        let user = format!("user-{n}");
        let (_, device) = server.create_on(new_session(&user)).await;
        server.create_on(new_session(&user)).await;
        server.meddle(&format!("UPDATE devices SET {set} WHERE user_id = '{user}'")).await;
        let failed = server.revoke_device(revocation(&user, &device)).await.expect_err(set);
        assert_eq!(failed.code(), Code::Internal, "{set}");
        let active = format!("state = 1 AND user_id = '{user}'");
        assert_eq!(users_of(&server, &active).await, Vec::<String>::new(), "{set}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_figures_keep_no_user_from_being_erased() {
    let server = start().await;
    server.create("ada").await;
    let figures = "SELECT count(*) FROM roll_ups WHERE user_id = ''";
    wait::until(async || server.db.count(figures).await > 0).await;
    server.meddle("UPDATE roll_ups SET counts = '3' WHERE user_id = ''").await;
    let erased = server.erase("ada").await.expect("an erasure");
    assert_eq!((erased.sessions_deleted, erased.complete), (1, true));
    assert_eq!(users_of(&server, "true").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_revocation_ends_no_watch() {
    let server = start().await;
    for set in ["revoked_at = 'infinity'", "evict_at = 'infinity'"] {
        let (id, ..) = parts(&server.create("ada").await);
        server.terminate(&id).await.expect("an end");
        server.meddle(&format!("UPDATE revocations SET {set}")).await;
        let mut gateway = Gateway::open(&server, "").await;
        let (later, ..) = parts(&server.create("ada").await);
        server.terminate(&later).await.expect("an end");
        gateway.until_ended(&later).await;
    }
}
