//! ListActivities filtered by network, device, client, principal and alert.

use sessiond::grpc::pb;

use crate::harness::calls::{parts, violations};
use crate::harness::devices::on;
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, start};

async fn list(server: &TestServer, filter: pb::ActivityFilter) -> Vec<pb::Activity> {
    let request = pb::ListActivitiesRequest { filter: Some(filter), ..Default::default() };
    let answer = server.sessions().list_activities(request).await.expect("a page");
    answer.into_inner().activities
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_an_activity_filter_selects() {
    let server = start().await;
    let (ada, device) = server.create_on(on("ada", "print", "192.0.2.7")).await;
    let of_app = pb::CreateSessionRequest {
        client_id: "app".to_owned(),
        ..on("bob", "print", "2001:db8::1")
    };
    server.create_on(of_app).await;
    server.terminate(&parts(&ada).0).await.expect("ok");
    let alert = server.steal_from("carol").await;
    let taken =
        pb::AcknowledgeAlertRequest { alert_id: alert.alert_id.clone(), ..Default::default() };
    server.acknowledge(taken).await.expect("an alert");

    let filter = pb::ActivityFilter::default;
    let text = str::to_owned;
    let users = async |filter: pb::ActivityFilter| {
        let mut users: Vec<String> =
            list(&server, filter).await.into_iter().map(|activity| activity.user_id).collect();
        users.dedup();
        users
    };
    let cases = [
        (pb::ActivityFilter { ip_prefix: text("192.0.2.0/24"), ..filter() }, vec!["ada"]),
        (pb::ActivityFilter { ip_prefix: text("192.0.2.7"), ..filter() }, vec!["ada"]),
        (pb::ActivityFilter { ip_prefix: text("2001:db8::/32"), ..filter() }, vec!["bob"]),
        (pb::ActivityFilter { ip_prefix: text("198.51.100.0/24"), ..filter() }, vec![]),
        (pb::ActivityFilter { device_id: device, ..filter() }, vec!["ada"]),
        (pb::ActivityFilter { device_id: text(NOBODY), ..filter() }, vec![]),
        (pb::ActivityFilter { client_id: text("app"), ..filter() }, vec!["bob"]),
        (pb::ActivityFilter { principal: text("system"), ..filter() }, vec!["carol"]),
        (
            pb::ActivityFilter { principal: text("anonymous"), ..filter() },
            vec!["carol", "ada", "bob", "ada"],
        ),
        (pb::ActivityFilter { principal: text("nobody"), ..filter() }, vec![]),
        (pb::ActivityFilter { alert_id: alert.alert_id.clone(), ..filter() }, vec!["carol"]),
        (pb::ActivityFilter { alert_id: text(NOBODY), ..filter() }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(users(filter.clone()).await, expected, "{filter:?}");
    }
    let of_alert = list(&server, pb::ActivityFilter { alert_id: alert.alert_id, ..filter() }).await;
    let kinds: Vec<pb::ActivityKind> = of_alert.iter().map(pb::Activity::kind).collect();
    assert_eq!(kinds, [pb::ActivityKind::AlertAcknowledged, pb::ActivityKind::AlertRaised]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_breaks_its_limits_is_refused_with_all_of_them() {
    let server = start().await;
    let filter = pb::ActivityFilter {
        ip_prefix: "192.0.2.0/33".to_owned(),
        device_id: "x".to_owned(),
        client_id: "c".repeat(129),
        principal: "p".repeat(257),
        alert_id: "x".to_owned(),
        ..Default::default()
    };
    let request = pb::ListActivitiesRequest { filter: Some(filter), ..Default::default() };
    let refused = server.sessions().list_activities(request).await.expect_err("a refusal");
    let fields = ["ip_prefix", "device_id", "client_id", "principal", "alert_id"];
    assert_eq!(violations(&refused), fields.map(|field| format!("filter.{field}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_whether_it_succeeded() {
    use pb::ActivityKind::{ApiRequest, Custom, LoginFailed, LoginSucceeded, StepUp, TokenRefused};
    let server = start().await;
    let cases = [
        (ApiRequest, None, false),
        (StepUp, None, false),
        (Custom, None, false),
        (ApiRequest, Some(false), true),
        (StepUp, Some(true), true),
        (LoginSucceeded, None, true),
        (LoginSucceeded, Some(true), true),
        (LoginSucceeded, Some(false), false),
        (LoginFailed, None, true),
        (LoginFailed, Some(true), false),
        (TokenRefused, Some(false), true),
        (TokenRefused, Some(true), false),
    ];
    for (kind, success, is_taken) in cases {
        let name = if kind == Custom { "x" } else { "" }.to_owned();
        let report = pb::ReportedActivity {
            user_id: "ada".to_owned(),
            kind: kind.into(),
            name,
            success,
            ..Default::default()
        };
        let request =
            pb::RecordActivitiesRequest { activities: vec![report], ..Default::default() };
        let answer = server.sessions().record_activities(request).await;
        let broken = answer.err().as_ref().map(violations).unwrap_or_default();
        let expected = if is_taken { vec![] } else { vec!["activities[0].success"] };
        assert_eq!(broken, expected, "{kind:?} {success:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_looks_at_twenty_thousand_activities_and_the_next_goes_on() {
    let server = start().await;
    server.create("ada").await;
    let noise = async |count: u32, seconds: u32| {
        server
            .meddle(&format!(
                "INSERT INTO session_activities
                SELECT (json_populate_record(a, json_build_object(
                    'activity_id', gen_random_uuid(), 'principal', 'noise',
                    'occurred_at', a.occurred_at + {seconds} * interval '1 second'))).*
                FROM session_activities a, generate_series(1, {count})
                WHERE a.principal = 'anonymous'"
            ))
            .await;
    };
    let walk = async || {
        let filter = pb::ActivityFilter { principal: "anonymous".to_owned(), ..Default::default() };
        let (mut pages, mut page_token) = (Vec::new(), String::new());
        loop {
            let filter = Some(filter.clone());
            let request = pb::ListActivitiesRequest { filter, page_token, ..Default::default() };
            let page = server.sessions().list_activities(request).await.expect("a page");
            let page = page.into_inner();
            pages.push(page.activities.len());
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return pages;
            }
        }
    };
    noise(19_998, 1).await;
    assert_eq!(walk().await, [1], "all was looked at");
    noise(1, 2).await;
    assert_eq!(walk().await, [1, 0], "the last one looked at");
    noise(1, 2).await;
    assert_eq!(walk().await, [0, 1]);
    noise(20_000, 3).await;
    assert_eq!(walk().await, [0, 0, 1]);
    let all = pb::ActivityFilter { user_id: "ada".to_owned(), ..Default::default() };
    assert_eq!(list(&server, all).await.len(), 50, "nothing is looked for");
}
