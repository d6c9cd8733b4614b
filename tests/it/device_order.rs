//! ListDevices: the order by last activity, paging, and every field of its filter at its edge.

use std::time::Duration as StdDuration;

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::{parts, reason, violations};
use crate::harness::devices::on;
use crate::harness::requests::stamp;
use crate::harness::{TestServer, start, start_with, wait};

/// Longer than a test takes.
const NEVER: StdDuration = StdDuration::from_secs(60);

fn page(size: i32, token: &str) -> pb::ListDevicesRequest {
    let (user_id, page_token) = ("ada".to_owned(), token.to_owned());
    pb::ListDevicesRequest { user_id, page_size: size, page_token, ..Default::default() }
}

/// The devices of ada that a filter selects, in pages of `size`.
async fn selected(server: &TestServer, filter: pb::DeviceFilter, size: i32) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListDevicesRequest { filter: Some(filter), ..page(size, &token) };
        let answer = server.list_devices(request).await.expect("a page");
        found.extend(answer.devices.into_iter().map(|device| device.device_id));
        token = answer.next_page_token;
        if token.is_empty() {
            return found;
        }
    }
}

/// Creates sessions of ada on these devices, a minute apart; returns the devices and the sessions.
async fn create(server: &TestServer, names: &[&str]) -> Vec<(String, pb::CreateSessionResponse)> {
    let mut made = Vec::new();
    for name in names {
        server.advance(Duration::minutes(1));
        let (created, id) = server.create_on(on("ada", name, "192.0.2.1")).await;
        made.push((id, created));
    }
    made
}

fn picked(made: &[(String, pb::CreateSessionResponse)], places: &[usize]) -> Vec<String> {
    places.iter().map(|place| made[*place].0.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_by_last_sight_whether_a_session_or_the_row_tells_it() {
    let server = start().await;
    let made = create(&server, &["a", "b", "c", "d"]).await;
    // The sessions of b and d have ended; the rows have their last activity.
    for place in [1, 3] {
        server.terminate(&parts(&made[place].1).0).await.expect("ok");
    }
    let all = pb::DeviceFilter::default;
    assert_eq!(selected(&server, all(), 2).await, picked(&made, &[3, 2, 1, 0]));

    server.advance(Duration::minutes(1));
    let session = parts(&made[0].1);
    assert_eq!(server.validate(&session.1).await.outcome(), pb::Outcome::Active);
    let written = format!(
        "SELECT count(*) FROM user_sessions
        WHERE session_id = '{}' AND last_active_at > created_at",
        session.0
    );
    wait::until(async || server.db.count(&written).await == 1).await;
    for size in [1, 2, 3, 4] {
        let order = selected(&server, all(), size).await;
        assert_eq!(order, picked(&made, &[0, 3, 2, 1]), "pages of {size}");
    }
    let shown = server.devices("ada").await;
    assert!(shown.is_sorted_by_key(|d| std::cmp::Reverse(d.last_seen_time.map(|t| t.seconds))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_lists_what_is_not_seen_meanwhile_exactly_once_and_nothing_twice() {
    let server = start().await;
    let names = ["0", "1", "2", "3", "4", "5", "6"];
    let made = create(&server, &names).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    // Used after the first pages: a device that was listed, and one that was not.
    let mut used = [["6", "0"], ["5", "new"]].into_iter();
    loop {
        let answer = server.list_devices(page(2, &token)).await.expect("a page");
        seen.extend(answer.devices.into_iter().map(|device| device.device_id));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
        for name in used.next().into_iter().flatten() {
            server.advance(Duration::microseconds(1));
            server.create_on(on("ada", name, "192.0.2.9")).await;
        }
    }
    // The walk had not reached 0 and the new device when they were used, and now they are before its position.
    assert_eq!(seen, picked(&made, &[6, 5, 4, 3, 2, 1]));
    let again: Vec<String> =
        server.devices("ada").await.into_iter().map(|device| device.device_id).collect();
    assert_eq!(again.len(), 8);
    assert_eq!(again[1..], picked(&made, &[5, 0, 6, 4, 3, 2, 1]), "behind the new one");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_selected_by_activity_and_last_sight() {
    let server = start_with(|settings| {
        (settings.intervals.sweep, settings.intervals.flush) = (NEVER, NEVER);
        settings.policy.access_token_ttl = Duration::hours(1);
    })
    .await;
    // The session of `expired` is past its deadline at the end, but not swept.
    let expired = create(&server, &["expired"]).await.remove(0);
    server.advance(Duration::hours(1));
    let mut made = create(&server, &["ended", "live", "used"]).await;
    made.push(expired);
    let at = |place: usize| made[place].1.session.as_ref().expect("a session").create_time;
    server.terminate(&parts(&made[0].1).0).await.expect("ok");
    // This activity is not written yet.
    server.advance(Duration::minutes(1));
    server.validate(&parts(&made[2].1).1).await;
    let now = server.clock.now();

    let active = |is| pb::DeviceFilter { has_active_session: Some(is), ..Default::default() };
    let after = |at| pb::DeviceFilter { last_seen_after_time: at, ..Default::default() };
    let before = |at| pb::DeviceFilter { last_seen_before_time: at, ..Default::default() };
    let next = |at: Option<prost_types::Timestamp>| {
        at.map(|at| prost_types::Timestamp { nanos: at.nanos + 1_000, ..at })
    };
    let cases = [
        (pb::DeviceFilter::default(), vec![2, 1, 0, 3]),
        (active(true), vec![2, 1]),
        (active(false), vec![0, 3]),
        (after(at(0)), vec![2, 1, 0]),
        (after(next(at(0))), vec![2, 1]),
        (after(at(1)), vec![2, 1]),
        (after(next(at(1))), vec![2]),
        (before(at(1)), vec![0, 3]),
        (before(next(at(1))), vec![1, 0, 3]),
        (before(stamp(now)), vec![1, 0, 3]),
        (before(at(0)), vec![3]),
        (before(at(3)), vec![]),
        (pb::DeviceFilter { last_seen_before_time: at(1), ..active(false) }, vec![0, 3]),
        (pb::DeviceFilter { last_seen_after_time: at(0), ..before(at(1)) }, vec![0]),
    ];
    for (filter, places) in cases {
        for size in [1, 3, 50] {
            let found = selected(&server, filter, size).await;
            assert_eq!(found, picked(&made, &places), "{filter:?} in pages of {size}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_of_devices_is_checked_and_a_page_token_is_bound_to_it() {
    let server = start().await;
    create(&server, &["a", "b", "c"]).await;
    let never = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    let filter = pb::DeviceFilter {
        last_seen_after_time: never,
        last_seen_before_time: never,
        ..Default::default()
    };
    let request = pb::ListDevicesRequest { filter: Some(filter), ..page(-1, "") };
    let mut broken = violations(&server.list_devices(request).await.expect_err("a refusal"));
    broken.sort();
    let times = ["filter.last_seen_after_time", "filter.last_seen_before_time"];
    assert_eq!(broken, [times[0], times[1], "page_size"]);

    let token = server.list_devices(page(1, "")).await.expect("a page").next_page_token;
    let empty = Some(pb::DeviceFilter::default());
    let same = pb::ListDevicesRequest { filter: empty, ..page(5, &token) };
    assert_eq!(server.list_devices(same).await.expect("a page").devices.len(), 2);
    let active = pb::DeviceFilter { has_active_session: Some(true), ..Default::default() };
    let other = pb::ListDevicesRequest { filter: Some(active), ..page(5, &token) };
    let refusal = server.list_devices(other).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "PAGE_TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_ten_thousand_sessions_tell_the_order() {
    let server = start_with(|settings| settings.intervals.sweep = NEVER).await;
    let made = create(&server, &["old", "crowd"]).await;
    let (old, crowd) = (parts(&made[0].1).0, parts(&made[1].1).0);
    server
        .meddle(&format!(
            "UPDATE user_sessions SET last_active_at = last_active_at + interval '10 minutes'
            WHERE session_id = '{old}'"
        ))
        .await;
    server.advance(Duration::minutes(10));
    server.copy_session(&crowd, &server.ids(9_998)).await;
    let first = async || {
        let answer = server.list_devices(page(1, "")).await.expect("a page");
        answer.devices[0].device_id.clone()
    };
    assert_eq!(first().await, made[0].0, "its session is the ten thousandth");
    server.copy_session(&crowd, &server.ids(1)).await;
    assert_eq!(first().await, made[1].0, "its row tells, which is older");
}
