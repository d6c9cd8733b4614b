//! Every field of a filter, at its edge: the sessions that it selects, and the values that it refuses.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts, violations};
use crate::harness::requests::{NOBODY, stamp};
use crate::harness::{TestServer, start};

/// The users whose sessions a filter selects, in alphabetical order.
async fn selected(server: &TestServer, filter: pb::SessionFilter) -> Vec<String> {
    let request = pb::ListSessionsRequest { filter: Some(filter), ..Default::default() };
    let sessions = server.list_sessions(request).await.expect("a page").sessions;
    let mut users: Vec<String> = sessions.into_iter().map(|session| session.user_id).collect();
    users.sort();
    users
}

/// Creates a session of `user` from this address, on a device of this type.
async fn create_on(server: &TestServer, user: &str, ip: &str, kind: pb::DeviceType) -> pb::Session {
    let device = pb::DeviceContext { r#type: kind.into(), ..Default::default() };
    let ip_address = ip.to_owned();
    let client = pb::ClientContext { ip_address, device: Some(device), ..Default::default() };
    let client_id = format!("app of {user}");
    let request = pb::CreateSessionRequest { client: Some(client), client_id, ..new_session(user) };
    server.try_create(request).await.expect("a session").session.expect("a session")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_selects_by_user_device_client_and_type_and_all_of_them() {
    let server = start().await;
    let ada = create_on(&server, "ada", "192.0.2.1", pb::DeviceType::Tv).await;
    let bob = create_on(&server, "bob", "192.0.2.1", pb::DeviceType::Other).await;
    create_on(&server, "carol", "192.0.2.1", pb::DeviceType::Unspecified).await;
    assert_eq!(selected(&server, pb::SessionFilter::default()).await, ["ada", "bob", "carol"]);

    let user = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    let device_id = bob.device.expect("a device").device_id;
    let device = pb::SessionFilter { device_id, ..Default::default() };
    let client = pb::SessionFilter { client_id: "app of bob".to_owned(), ..Default::default() };
    let kind = pb::SessionFilter { device_type: pb::DeviceType::Tv.into(), ..Default::default() };
    let nothing = pb::SessionFilter { user_id: "ada".to_owned(), ..device.clone() };
    let all = pb::SessionFilter { client_id: "app of ada".to_owned(), ..kind.clone() };
    let all = pb::SessionFilter { device_id: ada.device.expect("one").device_id, ..all };
    assert_eq!(selected(&server, user).await, ["ada"]);
    assert_eq!(selected(&server, device).await, ["bob"]);
    assert_eq!(selected(&server, client).await, ["bob"]);
    assert_eq!(selected(&server, kind).await, ["ada"]);
    assert_eq!(selected(&server, nothing).await, Vec::<String>::new());
    assert_eq!(selected(&server, all).await, ["ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_selects_by_state() {
    let server = start().await;
    let (ended, ..) = parts(&server.create("ended").await);
    server.create("idle").await;
    server.terminate(&ended).await.expect("ok");
    server.advance(Duration::hours(1));
    server.create("alive").await;
    let states = [
        (pb::SessionState::Unspecified, vec!["alive", "ended", "idle"]),
        (pb::SessionState::Active, vec!["alive"]),
        (pb::SessionState::Terminated, vec!["ended"]),
        (pb::SessionState::Expired, vec!["idle"]),
    ];
    for (state, users) in states {
        let filter = pb::SessionFilter { state: state.into(), ..Default::default() };
        assert_eq!(selected(&server, filter).await, users, "{state:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_selects_by_network() {
    let server = start().await;
    let addresses = [
        ("first", "192.0.2.0"),
        ("last", "192.0.2.255"),
        ("next", "192.0.3.0"),
        ("six", "2001:db8::1"),
        ("none", ""),
    ];
    for (user, ip) in addresses {
        create_on(&server, user, ip, pb::DeviceType::Web).await;
    }
    let networks = [
        ("192.0.2.0/24", vec!["first", "last"]),
        ("192.0.2.77/24", vec!["first", "last"]),
        ("192.0.2.255", vec!["last"]),
        ("192.0.2.255/32", vec!["last"]),
        ("::ffff:192.0.2.255", vec!["last"]),
        ("::ffff:192.0.2.0/120", vec!["first", "last"]),
        ("0.0.0.0/0", vec!["first", "last", "next"]),
        ("2001:db8::/32", vec!["six"]),
        ("::/0", vec!["six"]),
        ("198.51.100.0/24", vec![]),
    ];
    for (network, users) in networks {
        let filter = pb::SessionFilter { ip_prefix: network.to_owned(), ..Default::default() };
        assert_eq!(selected(&server, filter).await, users, "{network}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_select_from_after_inclusive_to_before_exclusive() {
    let server = start().await;
    let instant = Duration::microseconds(1);
    server.create("early").await;
    server.advance(instant);
    let (_, _, refresh) = parts(&server.create("late").await);
    let late = server.clock.now();
    server.advance(Duration::seconds(1));
    server.refresh(&refresh).await.expect("a successor");
    let active = server.clock.now();

    let filter = pb::SessionFilter::default;
    let cases = [
        (pb::SessionFilter { created_after_time: stamp(late), ..filter() }, vec!["late"]),
        (pb::SessionFilter { created_after_time: stamp(late + instant), ..filter() }, vec![]),
        (pb::SessionFilter { created_before_time: stamp(late), ..filter() }, vec!["early"]),
        (
            pb::SessionFilter { created_before_time: stamp(late + instant), ..filter() },
            vec!["early", "late"],
        ),
        (pb::SessionFilter { last_active_after_time: stamp(active), ..filter() }, vec!["late"]),
        (pb::SessionFilter { last_active_after_time: stamp(active + instant), ..filter() }, vec![]),
        (pb::SessionFilter { last_active_before_time: stamp(active), ..filter() }, vec!["early"]),
        (
            pb::SessionFilter { last_active_before_time: stamp(active + instant), ..filter() },
            vec!["early", "late"],
        ),
    ];
    for (filter, users) in cases {
        assert_eq!(selected(&server, filter.clone()).await, users, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_breaks_limits_gets_all_violations() {
    let server = start().await;
    let never = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let filter = pb::SessionFilter {
        user_id: "ü".repeat(129),
        device_id: "x".to_owned(),
        client_id: "ü".repeat(129),
        state: 4,
        device_type: -1,
        ip_prefix: "192.0.2.0/33".to_owned(),
        created_after_time: never,
        created_before_time: never,
        last_active_after_time: never,
        last_active_before_time: never,
    };
    let request = pb::ListSessionsRequest {
        filter: Some(filter),
        tenant_id: "no spaces".to_owned(),
        page_size: -1,
        ..Default::default()
    };
    let mut broken = violations(&server.list_sessions(request).await.expect_err("a refusal"));
    broken.sort();
    let fields = [
        "filter.client_id",
        "filter.created_after_time",
        "filter.created_before_time",
        "filter.device_id",
        "filter.device_type",
        "filter.ip_prefix",
        "filter.last_active_after_time",
        "filter.last_active_before_time",
        "filter.state",
        "filter.user_id",
        "page_size",
        "tenant_id",
    ];
    assert_eq!(broken, fields);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_an_alert_filter_selects() {
    let server = start().await;
    let ada = server.steal_from("ada").await;
    server.advance(Duration::seconds(1));
    let bob = server.steal_from("bob").await;
    let now = server.clock.now();
    server
        .meddle(
            "UPDATE security_alerts SET category = 10, severity = 3, rule_id = 'data_regression'
            WHERE user_id = 'bob'",
        )
        .await;
    let request = pb::AcknowledgeAlertRequest {
        alert_id: bob.alert_id,
        assignee: Some("eve".to_owned()),
        ..Default::default()
    };
    server.acknowledge(request).await.expect("an alert");
    server.steal_from("carol").await;
    server.meddle("UPDATE security_alerts SET suppression = 2 WHERE user_id = 'carol'").await;

    let filter = pb::AlertFilter::default;
    let instant = Duration::microseconds(1);
    let cases = [
        (filter(), vec!["bob", "ada"]),
        (pb::AlertFilter { user_id: "ada".to_owned(), ..filter() }, vec!["ada"]),
        (pb::AlertFilter { session_id: ada.session_id, ..filter() }, vec!["ada"]),
        (pb::AlertFilter { session_id: NOBODY.to_owned(), ..filter() }, vec![]),
        (pb::AlertFilter { categories: vec![1], ..filter() }, vec!["ada"]),
        (pb::AlertFilter { categories: vec![10], ..filter() }, vec!["bob"]),
        (pb::AlertFilter { minimum_severity: 1, ..filter() }, vec!["bob", "ada"]),
        (pb::AlertFilter { minimum_severity: 3, ..filter() }, vec!["bob", "ada"]),
        (pb::AlertFilter { minimum_severity: 4, ..filter() }, vec!["ada"]),
        (pb::AlertFilter { minimum_severity: 5, ..filter() }, vec!["ada"]),
        (pb::AlertFilter { states: vec![1], ..filter() }, vec!["ada"]),
        (pb::AlertFilter { states: vec![2], ..filter() }, vec!["bob"]),
        (pb::AlertFilter { states: vec![3], ..filter() }, vec![]),
        (pb::AlertFilter { states: vec![1, 2], ..filter() }, vec!["bob", "ada"]),
        (pb::AlertFilter { categories: vec![1, 10], ..filter() }, vec!["bob", "ada"]),
        (pb::AlertFilter { categories: vec![1, 10], states: vec![2, 3], ..filter() }, vec!["bob"]),
        (pb::AlertFilter { suppressed: 1, ..filter() }, vec!["bob", "ada"]),
        (pb::AlertFilter { suppressed: 2, ..filter() }, vec!["carol"]),
        (pb::AlertFilter { suppressed: 3, ..filter() }, vec!["carol", "bob", "ada"]),
        (pb::AlertFilter { assignee: "eve".to_owned(), ..filter() }, vec!["bob"]),
        (pb::AlertFilter { assignee: "mallory".to_owned(), ..filter() }, vec![]),
        (pb::AlertFilter { rule_id: "refresh_reuse".to_owned(), ..filter() }, vec!["ada"]),
        (pb::AlertFilter { last_seen_after_time: stamp(now), ..filter() }, vec!["bob"]),
        (pb::AlertFilter { last_seen_after_time: stamp(now + instant), ..filter() }, vec![]),
        (pb::AlertFilter { last_seen_before_time: stamp(now), ..filter() }, vec!["ada"]),
        (
            pb::AlertFilter { last_seen_before_time: stamp(now + instant), ..filter() },
            vec!["bob", "ada"],
        ),
    ];
    for (filter, users) in cases {
        let request = pb::ListAlertsRequest { filter: Some(filter.clone()), ..Default::default() };
        let listed = server.list_alerts(request).await.expect("a page").alerts;
        let listed: Vec<&str> = listed.iter().map(|alert| alert.user_id.as_str()).collect();
        assert_eq!(listed, users, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_filter_that_breaks_limits_gets_all_violations() {
    let server = start().await;
    let never = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    let filter = pb::AlertFilter {
        user_id: "a\nb".to_owned(),
        session_id: "x".to_owned(),
        categories: vec![1, 12, 0],
        minimum_severity: 6,
        states: vec![2, -1],
        rule_id: "r".repeat(65),
        last_seen_after_time: never,
        last_seen_before_time: never,
        suppressed: 4,
        assignee: "a".repeat(129),
    };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    let mut broken = violations(&server.list_alerts(request).await.expect_err("a refusal"));
    broken.sort();
    let fields = [
        "filter.assignee",
        "filter.categories[1]",
        "filter.categories[2]",
        "filter.last_seen_after_time",
        "filter.last_seen_before_time",
        "filter.minimum_severity",
        "filter.rule_id",
        "filter.session_id",
        "filter.states[1]",
        "filter.suppressed",
        "filter.user_id",
    ];
    assert_eq!(broken, fields);
    for (count, said) in [(16, vec![]), (17, vec!["filter.states"])] {
        let filter = pb::AlertFilter { states: vec![1; count], ..Default::default() };
        let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
        let refused = server.list_alerts(request).await.err();
        assert_eq!(refused.as_ref().map(violations).unwrap_or_default(), said, "{count}");
    }
}
