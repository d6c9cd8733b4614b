//! RecordActivities, and the audit trail in ListActivities.

use chrono::Duration;
use futures_util::future::{join, join_all};
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::model::detection::DetectionSettings;
use tonic::Status;
use tonic_types::StatusExt;

use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, audit, impatient, start, start_with, wait};

pub async fn record(
    server: &TestServer,
    activities: Vec<pb::ReportedActivity>,
    request_id: &str,
) -> Result<pb::RecordActivitiesResponse, Status> {
    let request_id = request_id.to_owned();
    let request = pb::RecordActivitiesRequest { activities, request_id, ..Default::default() };
    Ok(server.sessions().record_activities(request).await?.into_inner())
}

async fn list(
    server: &TestServer,
    filter: pb::ActivityFilter,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListActivitiesResponse, Status> {
    let (filter, page_token) = (Some(filter), page_token.to_owned());
    let request = pb::ListActivitiesRequest { filter, page_size, page_token, ..Default::default() };
    Ok(server.sessions().list_activities(request).await?.into_inner())
}

fn failed_login(user: &str) -> pb::ReportedActivity {
    let kind = pb::ActivityKind::LoginFailed.into();
    pb::ReportedActivity { user_id: user.to_owned(), kind, ..Default::default() }
}

pub fn request_in(session_id: &str) -> pb::ReportedActivity {
    let (session_id, kind) = (session_id.to_owned(), pb::ActivityKind::ApiRequest.into());
    pb::ReportedActivity { session_id, kind, success: Some(true), ..Default::default() }
}

fn of_user(user: &str) -> pb::ActivityFilter {
    pb::ActivityFilter { user_id: user.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_read_back_with_what_is_known_of_its_session() {
    let server = start().await;
    let session = server.create("ada").await.session.expect("a session");
    let mut report = request_in(&session.session_id);
    report.endpoint = "/v1/orders".to_owned();
    report.method = "GET".to_owned();
    report.latency = Some(prost_types::Duration { seconds: 0, nanos: 42_000_000 });
    report.metadata = [("trace".to_owned(), "77".to_owned())].into();
    let answer = record(&server, vec![report], "").await.expect("ok");
    assert_eq!((answer.accepted_count, answer.rejected), (1, vec![]));
    let filter =
        pb::ActivityFilter { session_id: session.session_id.clone(), ..Default::default() };
    let trail = list(&server, filter, 0, "").await.expect("a page").activities;
    let kinds: Vec<_> = trail.iter().map(pb::Activity::kind).collect();
    assert_eq!(kinds, [pb::ActivityKind::ApiRequest, pb::ActivityKind::Created]);
    let read = &trail[0];
    assert_eq!((read.user_id.as_str(), read.client_id.as_str()), ("ada", "web"));
    assert_eq!(read.device_id, session.device.expect("a device").device_id);
    let report = read.report.as_ref().expect("a report");
    assert_eq!((report.endpoint.as_str(), report.method.as_str()), ("/v1/orders", "GET"));
    assert!(report.success && report.metadata["trace"] == "77");
    assert_eq!(report.latency.expect("a latency").nanos, 42_000_000);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_unknown_sessions_are_left_out_and_a_repetition_gets_the_first_answer() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    let stranger = pb::ReportedActivity { user_id: "bob".to_owned(), ..request_in(&id) };
    let reports = vec![request_in(NOBODY), failed_login("carol"), stranger, request_in(&id)];
    let request_id = server.ids(1).remove(0);
    let calls = (0..4).map(|_| record(&server, reports.clone(), &request_id));
    for answer in join_all(calls).await {
        let answer = answer.expect("ok");
        let rejected: Vec<_> = answer.rejected.iter().map(|it| (it.index, it.reason())).collect();
        let why = pb::ErrorReason::SessionNotFound;
        assert_eq!((answer.accepted_count, rejected), (2, vec![(0, why), (2, why)]));
    }
    assert_eq!(server.activities(20).await + server.activities(22).await, 2);
    let other = record(&server, vec![failed_login("carol")], &request_id).await;
    assert_eq!(reason(&other.expect_err("a refusal")), "REQUEST_ID_REUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_reports_hold_at_their_edges_and_nothing_is_stored_beyond() {
    let server = start().await;
    let ahead = |by: Duration| {
        let at = server.clock.now() + by;
        let (seconds, nanos) = (at.timestamp(), at.timestamp_subsec_nanos() as i32);
        Some(prost_types::Timestamp { seconds, nanos })
    };
    let micro = Duration::microseconds(1);
    let change = |at: &str, over: bool| {
        let more = usize::from(over);
        let mut it = failed_login("ada");
        match at {
            "endpoint" => it.endpoint = "x".repeat(256 + more),
            "method" => it.method = "x".repeat(32 + more),
            "error_code" => it.error_code = "x".repeat(64 + more),
            "name" => {
                it.kind = pb::ActivityKind::Custom.into();
                it.success = Some(false);
                it.name = "x".repeat(64 + more);
            }
            "kind" => it.kind = 25 - 3 + 4 * more as i32,
            "metadata" => {
                let value = |i: usize| "v".repeat(if i == 0 { 510 + more } else { 510 });
                it.metadata = (0..8).map(|i| (format!("k{i}"), value(i))).collect();
            }
            "latency" => {
                let nanos = more as i32 * 1_000;
                it.latency = Some(prost_types::Duration { seconds: 86_400, nanos });
            }
            "future" => it.occur_time = ahead(Duration::seconds(5) + micro * more as i32),
            _ => it.occur_time = ahead(-Duration::hours(24) - micro * more as i32),
        }
        it
    };
    let all = [
        "endpoint",
        "method",
        "error_code",
        "name",
        "kind",
        "metadata",
        "latency",
        "future",
        "past",
    ];
    for at in all {
        let answer = record(&server, vec![change(at, false)], "").await.expect(at);
        assert_eq!(answer.accepted_count, 1, "{at}");
        let reports = vec![failed_login("bob"), change(at, true)];
        let refused = record(&server, reports, "").await.expect_err(at);
        let field = if matches!(at, "future" | "past") { "occur_time" } else { at };
        assert_eq!(violations(&refused), [format!("activities[1].{field}")]);
    }
    assert_eq!(list(&server, of_user("bob"), 0, "").await.expect("a page").activities, []);
    record(&server, vec![failed_login("eve"); 1000], "").await.expect("a thousand");
    for count in [0, 1001] {
        let refused = record(&server, vec![failed_login("eve"); count], "").await;
        assert_eq!(violations(&refused.expect_err("a refusal")), ["activities"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_filtered_and_paged_newest_first() {
    let server = start().await;
    for i in 0..9 {
        // Every three activities share a time.
        server.advance(Duration::microseconds(i64::from(i % 3 == 0)));
        record(&server, vec![failed_login(["ada", "bob"][i % 2])], "").await.expect("ok");
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&server, pb::ActivityFilter::default(), 2, &token).await.expect("a page");
        seen.extend(page.activities);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let foreign = list(&server, of_user("ada"), 2, &token).await.expect_err("a refusal");
        assert_eq!(reason(&foreign), "PAGE_TOKEN_INVALID");
    }
    let keys: Vec<_> = seen
        .iter()
        .map(|it| (it.occur_time.map(|at| (at.seconds, at.nanos)), it.activity_id.clone()))
        .collect();
    assert!(keys.len() == 9 && keys.is_sorted_by(|a, b| a > b), "{keys:?}");
    assert_eq!(list(&server, of_user("ada"), 0, "").await.expect("a page").activities.len(), 5);
    let count = async |filter| list(&server, filter, 0, "").await.expect("a page").activities.len();
    let of_kinds = async |kinds: &[pb::ActivityKind]| {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        count(pb::ActivityFilter { kinds, ..Default::default() }).await
    };
    let (created, failed) = (pb::ActivityKind::Created, pb::ActivityKind::LoginFailed);
    assert_eq!((of_kinds(&[created]).await, of_kinds(&[failed]).await), (0, 9));
    assert_eq!(count(pb::ActivityFilter { success: Some(false), ..Default::default() }).await, 9);
    assert_eq!(count(pb::ActivityFilter { success: Some(true), ..Default::default() }).await, 0);
    let of = pb::ActivityFilter::default;
    let text = str::to_owned;
    assert_eq!(count(pb::ActivityFilter { principal: text("anonymous"), ..of() }).await, 9);
    assert_eq!(count(pb::ActivityFilter { principal: text("system"), ..of() }).await, 0);
    let middle = seen[3].occur_time;
    let after = pb::ActivityFilter { occurred_after_time: middle, ..Default::default() };
    let before = pb::ActivityFilter { occurred_before_time: middle, ..Default::default() };
    assert_eq!((count(after).await, count(before).await), (6, 3));
    server.create("ada").await;
    assert_eq!((of_kinds(&[created]).await, of_kinds(&[failed]).await), (1, 9));
    assert_eq!(of_kinds(&[created, failed]).await, 10, "any of them");
    assert_eq!(of_kinds(&[pb::ActivityKind::Terminated]).await, 0);
    let session_id = NOBODY.to_owned();
    let lost = pb::ActivityFilter { session_id, ..Default::default() };
    let lost = list(&server, lost, 0, "").await.expect_err("a refusal");
    assert_eq!(reason(&lost), "SESSION_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_logins_that_are_reported_late_and_out_of_order_raise_one_alert() {
    let server = start_with(|settings| settings.detection = DetectionSettings::default()).await;
    let reports = (0..10_i64).map(|i| {
        // Back and forth within some minutes of yesterday.
        let at = server.clock.now() - Duration::hours(23) + Duration::seconds(i * 7 % 10 * 30);
        let (seconds, nanos) = (at.timestamp(), at.timestamp_subsec_nanos() as i32);
        let occur_time = Some(prost_types::Timestamp { seconds, nanos });
        pb::ReportedActivity { occur_time, ..failed_login("nobody-here") }
    });
    record(&server, reports.collect(), "").await.expect("ok");
    let alerts = "SELECT count(*) FROM security_alerts WHERE rule_id = 'failed_logins'";
    wait::until(async || server.db.count(alerts).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_waited_for_an_erasure_leaves_nothing_in_its_session() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    let mut meddler = server.db.connect().await;
    let held = meddler.transaction().await.expect("a transaction");
    held.execute("SELECT 1 FROM user_sessions FOR UPDATE", &[]).await.expect("a lock");
    let waiting = async |count: i64| {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
            AND datname = current_database()";
        wait::until(async || server.db.count(sql).await >= count).await;
    };
    let reporting = async {
        waiting(1).await;
        record(&server, vec![request_in(&id)], "").await.expect("ok")
    };
    let releasing = async {
        waiting(2).await;
        held.commit().await.expect("the end of the lock");
    };
    let (erased, (_, ())) = join(server.erase("ada"), join(reporting, releasing)).await;
    assert!(erased.expect("an erasure").complete);
    let left = "SELECT count(*) FROM session_activities WHERE user_id = 'ada'";
    assert_eq!(server.db.count(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_beyond_the_queue_are_refused_as_overload() {
    let server = start_with(|settings| {
        impatient(settings);
        authenticated(settings);
    })
    .await;
    // Of one principal only some calls with reports are in progress at once.
    let mut keys = Vec::new();
    for name in ["one", "two", "three", "four"] {
        keys.push(server.key(name, &grant(Role::Admin, &["*"])).await.text);
    }
    server.sessions_as(&keys[0]).create_session(new_session("ada")).await.expect("a session");
    let report = async |key: &str, count| {
        let activities = vec![failed_login("ada"); count];
        let request = pb::RecordActivitiesRequest { activities, ..Default::default() };
        server.sessions_as(key).record_activities(request).await
    };
    let mut meddler = server.db.connect().await;
    let held = meddler.transaction().await.expect("a transaction");
    held.execute("SELECT 1 FROM session_users FOR UPDATE", &[]).await.expect("a lock");
    let answers = join_all((0..24).map(|n| report(&keys[n % 4], 1000))).await;
    let refusals = answers.iter().filter_map(|answer| answer.as_ref().err());
    let full: Vec<_> = refusals.filter(|it| reason(it) == "OVERLOADED").collect();
    assert!(!full.is_empty(), "{} answers", answers.len());
    for status in full {
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.get_error_details().retry_info().is_some());
    }
    held.commit().await.expect("the end of the lock");
    assert_eq!(server.activities(22).await, 0, "nothing of them was stored");
    report(&keys[0], 1).await.expect("room again");
}
