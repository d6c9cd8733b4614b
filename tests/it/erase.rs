//! EraseUser: no data of the user is left, and no other user is affected.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{new_session, parts, reason, refusal, violations};
use crate::harness::{TestServer, audit, start, start_on};
use crate::secrets::dump;
use crate::stats::counted;

const USER: &str = "zoe-4711";
const ERASED: i16 = 12;

/// Texts that occur in rows of the user, and in no other row.
const TRACES: [&str; 10] = [
    USER,
    "198.51.100.77",
    "2001:db8:77::1",
    "ZoesBrowser/1",
    "ZoesBrowser/2",
    "her metadata",
    "her phone",
    "Zoetermeer",
    "asked her",
    "she left",
];

fn zoe(request_id: String) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest {
        client: Some(pb::ClientContext {
            ip_address: "198.51.100.77".to_owned(),
            user_agent: "ZoesBrowser/1".to_owned(),
            location: Some(pb::Location { city: "Zoetermeer".to_owned(), ..Default::default() }),
            device: Some(pb::DeviceContext {
                display_name: "her phone".to_owned(),
                identity: Some(pb::device_context::Identity::Fingerprint("her print".to_owned())),
                ..Default::default()
            }),
        }),
        metadata: [("k".to_owned(), "her metadata".to_owned())].into(),
        request_id,
        ..new_session(USER)
    }
}

/// Creates rows of each kind for the user; returns the ids of the sessions and alerts, and the tokens of an active
/// session.
async fn leave_traces(server: &TestServer) -> (Vec<String>, pb::TokenPair) {
    let mut request_ids = server.ids(3).into_iter();
    let mut ids = Vec::new();
    let mut create = async || {
        let request = zoe(request_ids.next().expect("enough"));
        let (id, access, refresh) = parts(&server.try_create(request).await.expect("a session"));
        ids.push(id.clone());
        (id, access, refresh)
    };
    let (ended, ..) = create().await;
    let (_, _, stolen) = create().await;
    let (_, access, first) = create().await;
    let client = pb::ClientContext {
        ip_address: "2001:db8:77::1".to_owned(),
        user_agent: "ZoesBrowser/2".to_owned(),
        ..Default::default()
    };
    let request = pb::RefreshSessionRequest { refresh_token: first, client: Some(client) };
    let refreshed = server.sessions().refresh_session(request).await.expect("ok").into_inner();
    let request = pb::TerminateSessionRequest {
        target: Some(pb::terminate_session_request::Target::SessionId(ended)),
        note: "she left".to_owned(),
        request_id: server.ids(1).remove(0),
        ..Default::default()
    };
    server.terminate_as(request).await.expect("an end");
    server.replay(&stolen).await;
    let filter = pb::AlertFilter { user_id: USER.to_owned(), ..Default::default() };
    let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
    let alert_id = server.list_alerts(request).await.expect("a list").alerts.remove(0).alert_id;
    ids.push(alert_id.clone());
    let request = pb::AcknowledgeAlertRequest {
        alert_id,
        note: "asked her".to_owned(),
        request_id: server.ids(1).remove(0),
        ..Default::default()
    };
    server.acknowledge(request).await.expect("an acknowledgement");
    // Buffered activity, to be written later.
    server.validate(&access).await;
    (ids, refreshed.tokens.expect("tokens"))
}

/// True for the positions of feed consumers and the database, and for statistics of the tenant.
fn is_nobodys(row: &str) -> bool {
    ["(detect,", "(stats,", "(default,\"\",", "(t,"].iter().any(|start| row.starts_with(start))
}

fn holding<'a>(rows: &'a [String], traces: &[&str]) -> Vec<&'a String> {
    rows.iter().filter(|row| traces.iter().any(|trace| row.contains(trace))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_any_table_holds_a_trace_of_an_erased_user() {
    let server = start().await;
    server.steal_from("bob").await;
    counted(&server).await;
    let others = dump(&server.db).await;
    let (ids, tokens) = leave_traces(&server).await;
    let device = server.get(&ids[0]).await.expect("a session").device.expect("a device");
    let traces = TRACES.into_iter().chain(ids.iter().map(String::as_str));
    let traces: Vec<&str> = traces.chain([device.device_id.as_str()]).collect();
    let before = dump(&server.db).await;
    for trace in &traces {
        assert!(!holding(&before, &[trace]).is_empty(), "{trace} is in the tables at first");
    }

    let erased = server.erase(USER).await.expect("an erasure");
    let counts = (erased.sessions_ended, erased.sessions_deleted, erased.alerts_deleted);
    assert_eq!((counts, erased.complete), ((1, 3, 1), true));
    // 3 creations, 3 refreshes, 2 ends, 1 alert, 1 acknowledgement.
    assert_eq!(erased.activities_deleted, 10);

    // Neither another validation nor the flush that follows writes a row of the user.
    server.validate(&tokens.access_token).await;
    let (db, clock) = server.stop().await;
    let rows = dump(&db).await;
    let nothing: [&String; 0] = [];
    assert_eq!(holding(&rows, &traces), nothing);
    for row in others.into_iter().filter(|row| !is_nobodys(row)) {
        assert!(rows.contains(&row), "a row of another user is gone: {row}");
    }
    let server = start_on(db, clock, |_| {}).await;
    let sql = format!(
        "SELECT count(*) FROM session_activities WHERE kind = {ERASED} AND user_id = ''
        AND principal = 'anonymous' AND coalesce(session_id, device_id, alert_id) IS NULL
        AND ip_address IS NULL AND user_agent IS NULL"
    );
    assert_eq!((server.db.count(&sql).await, server.activities(ERASED).await), (1, 1));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_of_an_erased_user_works_on_any_replica() {
    let server = start().await;
    let replica = server.replica().await;
    let (ids, tokens) = leave_traces(&server).await;
    for one in [&server, &replica] {
        assert_eq!(one.validate(&tokens.access_token).await.outcome(), pb::Outcome::Active);
    }
    server.erase(USER).await.expect("an erasure");
    for one in [&server, &replica] {
        let judged = one.validate_now(&tokens.access_token).await;
        assert_eq!(judged.outcome(), pb::Outcome::Inactive);
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::SessionUnknown);
        assert_eq!(refusal(one.refresh(&tokens.refresh_token).await), "REFRESH_TOKEN_INVALID");
        assert_eq!(one.get(&ids[0]).await.expect_err("gone").code(), Code::NotFound);
        assert_eq!(one.get_alert(&ids[3]).await.expect_err("gone").code(), Code::NotFound);
        assert_eq!(one.terminate(&ids[2]).await.expect("ok"), None);
        assert_eq!(one.list(USER).await, []);
    }
    // A user with the same name is a new one.
    server.create(USER).await;
    assert_eq!(server.list(USER).await.len(), 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_another_tenant_with_the_same_name_is_another_user() {
    let server = start().await;
    let elsewhere = pb::CreateSessionRequest {
        tenant_id: "acme".to_owned(),
        request_id: server.ids(1).remove(0),
        ..new_session(USER)
    };
    let (_, access, _) = parts(&server.try_create(elsewhere).await.expect("a session"));
    counted(&server).await;
    let others = dump(&server.db).await;
    leave_traces(&server).await;
    server.erase(USER).await.expect("an erasure");
    let rows = dump(&server.db).await;
    for row in others.into_iter().filter(|row| !is_nobodys(row)) {
        assert!(rows.contains(&row), "a row of the other tenant is gone: {row}");
    }
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_can_be_repeated_also_of_a_user_who_never_was() {
    let server = start().await;
    leave_traces(&server).await;
    assert!(server.erase(USER).await.expect("an erasure").complete);
    for user in [USER, "nobody"] {
        let again = server.erase(user).await.expect("ok");
        let watermark = again.watermark.clone();
        assert!(watermark.starts_with('w'));
        let nothing = pb::EraseUserResponse { complete: true, watermark, ..Default::default() };
        assert_eq!(again, nothing);
    }
    assert_eq!(server.activities(ERASED).await, 1, "nothing changed the second time");
    assert_eq!(server.db.count("SELECT count(*) FROM session_users").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_kept_without_the_user_and_runs_again() {
    let server = start().await;
    leave_traces(&server).await;
    let erase = async |user: &str, request_id: &str| {
        let (user_id, request_id) = (user.to_owned(), request_id.to_owned());
        let request = pb::EraseUserRequest { user_id, request_id, ..Default::default() };
        server.sessions().erase_user(request).await.map(|answer| answer.into_inner())
    };
    let id = server.ids(1).remove(0);
    assert_eq!(erase(USER, &id).await.expect("an erasure").sessions_deleted, 3);
    server.create("bob").await;
    let refused = erase("bob", &id).await.expect_err("another body");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(server.list("bob").await.len(), 1, "nothing was done");

    server.create(USER).await;
    assert_eq!(erase(USER, &id).await.expect("again").sessions_deleted, 1);
    assert!(holding(&dump(&server.db).await, &[USER]).is_empty());
    server.advance(Duration::hours(25));
    assert_eq!(erase("bob", &id).await.expect("forgotten by then").sessions_deleted, 1);

    let refused = erase("", "no-uuid").await.expect_err("two rules broken");
    assert_eq!(violations(&refused), ["request_id", "user_id"]);
    let refused = erase(&"x".repeat(129), "").await.expect_err("too long");
    assert_eq!(violations(&refused), ["user_id"]);
    assert!(erase(&"x".repeat(128), "").await.expect("as long as may be").complete);
}
