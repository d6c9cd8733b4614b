//! Every error reason: its code, its details, and no internals in its text. Other files cover outages and overload.

use std::collections::HashMap;

use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::calls::{new_session, parts, reason, violations};
use crate::harness::conflicts::{settling, start_asking};
use crate::harness::requests::{NOBODY, length};
use crate::harness::{TestServer, start, start_with};

/// Asserts the code, reason and metadata of a refusal, and the rules for all refusals.
fn assert_refused(status: &Status, code: Code, name: &str, metadata: &[(&str, &str)]) {
    assert_eq!((status.code(), reason(status).as_str()), (code, name), "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    assert_eq!(info.metadata, metadata);
    assert_eq!(details.bad_request().is_some(), code == Code::InvalidArgument, "{status:?}");
    assert_eq!(details.resource_info().is_some(), code == Code::NotFound, "{status:?}");
    // A retry of a definite refusal does not help.
    assert!(details.retry_info().is_none(), "{status:?}");
    assert!(details.debug_info().is_none(), "{status:?}");
    assert!(!status.message().is_empty());
    let text = status.message().to_lowercase();
    for machinery in ["postgres", "diesel", "sql", "relation", "column", "user_sessions", "serde"] {
        assert!(!text.contains(machinery), "{text}");
    }
}

fn assert_names(status: &Status, kind: &str, name: &str) {
    let details = status.get_error_details();
    let resource = details.resource_info().expect("a ResourceInfo");
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), (kind, name));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_field_names_every_broken_field_at_once() {
    let server = start().await;
    let location =
        pb::Location { country_code: "xx".to_owned(), latitude: Some(91.0), ..Default::default() };
    let identity = pb::device_context::Identity::DeviceId("x".to_owned());
    let device = pb::DeviceContext { identity: Some(identity), r#type: 9, ..Default::default() };
    let client = pb::ClientContext {
        ip_address: "fe80::1%eth0".to_owned(),
        user_agent: "\u{1b}[31m".to_owned(),
        location: Some(location),
        device: Some(device),
    };
    let authentication =
        pb::Authentication { acr: "a b".to_owned(), amr: vec![String::new()], auth_time: None };
    let request = pb::CreateSessionRequest {
        tenant_id: "a b".to_owned(),
        client: Some(client),
        authentication: Some(authentication),
        idle_timeout: length(chrono::Duration::zero()),
        absolute_timeout: length(chrono::Duration::days(2)),
        audiences: vec!["a b".to_owned()],
        metadata: [("a b".to_owned(), String::new())].into(),
        request_id: "x".to_owned(),
        ..Default::default()
    };
    let refusal = server.try_create(request).await.expect_err("a refusal");
    assert_refused(&refusal, Code::InvalidArgument, "INVALID_FIELD", &[]);
    let mut broken = violations(&refusal);
    broken.sort();
    let fields = [
        "absolute_timeout",
        "audiences[0]",
        "authentication.acr",
        "authentication.amr[0]",
        "client.device.device_id",
        "client.device.type",
        "client.ip_address",
        "client.location.country_code",
        "client.location.latitude",
        "client.location.longitude",
        "client.user_agent",
        "client_id",
        "idle_timeout",
        "metadata",
        "request_id",
        "tenant_id",
        "user_id",
    ];
    assert_eq!(broken, fields);
    let details = refusal.get_error_details();
    let listed = &details.bad_request().expect("a BadRequest").field_violations;
    assert!(listed.iter().all(|violation| violation.description.len() > 10), "{listed:?}");
    assert_eq!(server.activities(1).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_token_invalid_is_a_bad_request_about_the_token() {
    let server = start().await;
    let request = pb::ListSessionsRequest { page_token: "forged".to_owned(), ..Default::default() };
    let refusal = server.list_sessions(request).await.expect_err("a refusal");
    assert_refused(&refusal, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[]);
    assert_eq!(violations(&refusal), ["page_token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_id_reused_already_exists() {
    let server = start().await;
    let request_id = NOBODY.to_owned();
    let of =
        |user| pb::CreateSessionRequest { request_id: request_id.clone(), ..new_session(user) };
    server.try_create(of("ada")).await.expect("a session");
    let refusal = server.try_create(of("bob")).await.expect_err("a refusal");
    assert_refused(&refusal, Code::AlreadyExists, "REQUEST_ID_REUSED", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_not_found_and_alert_not_found_name_what_is_missing() {
    let server = start().await;
    let refusal = server.get(NOBODY).await.expect_err("a refusal");
    assert_refused(&refusal, Code::NotFound, "SESSION_NOT_FOUND", &[]);
    assert_names(&refusal, "sessiond.v1.Session", NOBODY);

    let (id, ..) = parts(&server.create("ada").await);
    let request = pb::GetSessionRequest {
        session_id: id.clone(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    let refusal = server.sessions().get_session(request).await.expect_err("of another user");
    assert_refused(&refusal, Code::NotFound, "SESSION_NOT_FOUND", &[]);
    assert_names(&refusal, "sessiond.v1.Session", &id);

    let alert_id = NOBODY.to_owned();
    let acknowledge =
        pb::AcknowledgeAlertRequest { alert_id: alert_id.clone(), ..Default::default() };
    let resolve = pb::ResolveAlertRequest { alert_id, resolution: 1, ..Default::default() };
    let refusals = [
        server.get_alert(NOBODY).await.expect_err("a refusal"),
        server.acknowledge(acknowledge).await.expect_err("a refusal"),
        server.resolve(resolve).await.expect_err("a refusal"),
    ];
    for refusal in refusals {
        assert_refused(&refusal, Code::NotFound, "ALERT_NOT_FOUND", &[]);
        assert_names(&refusal, "sessiond.v1.SecurityAlert", NOBODY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_limit_reached_says_how_many_of_how_many() {
    let server = start_with(|settings| {
        settings.policy.limits.user.max = 2;
        settings.policy.limits.user.on_limit = OnLimit::Reject;
    })
    .await;
    server.create("ada").await;
    server.create("ada").await;
    let refusal = server.try_create(new_session("ada")).await.expect_err("a refusal");
    let metadata = [("scope", "user"), ("limit", "2"), ("active", "2")];
    assert_refused(&refusal, Code::FailedPrecondition, "SESSION_LIMIT_REACHED", &metadata);
    server.create("bob").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_conflict_says_how_many_must_end_and_a_spoilt_token_is_invalid() {
    let server = start_asking(1).await;
    server.create("ada").await;
    let refusal = server.try_create(new_session("ada")).await.expect_err("a refusal");
    let metadata = [("scope", "user"), ("limit", "1"), ("active", "1"), ("must_end", "1")];
    assert_refused(&refusal, Code::FailedPrecondition, "SESSION_CONFLICT", &metadata);
    let spoilt = settling(new_session("ada"), "spoilt", &[NOBODY]);
    let refusal = server.try_create(spoilt).await.expect_err("a refusal");
    assert_refused(&refusal, Code::FailedPrecondition, "CONFLICT_TOKEN_INVALID", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_invalid_reused_or_of_an_ended_session() {
    let server = start().await;
    let refusal = server.refresh("").await.expect_err("a refusal");
    assert_refused(&refusal, Code::FailedPrecondition, "REFRESH_TOKEN_INVALID", &[]);

    let (_, _, first) = parts(&server.create("ada").await);
    let refusal = server.replay(&first).await;
    let reuse = [("end_reason", "REFRESH_REUSE")];
    assert_refused(&refusal, Code::FailedPrecondition, "REFRESH_TOKEN_REUSED", &reuse);
    let refusal = server.refresh(&first).await.expect_err("a refusal");
    assert_refused(&refusal, Code::FailedPrecondition, "SESSION_TERMINATED", &reuse);

    let (id, _, refresh) = parts(&server.create("ada").await);
    server.terminate(&id).await.expect("ok");
    let refusal = server.refresh(&refresh).await.expect_err("a refusal");
    let logout = [("end_reason", "LOGOUT")];
    assert_refused(&refusal, Code::FailedPrecondition, "SESSION_TERMINATED", &logout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_of_an_expired_session_says_which_deadline_passed() {
    let server = start().await;
    let short = pb::CreateSessionRequest {
        absolute_timeout: length(chrono::Duration::hours(1)),
        ..new_session("ada")
    };
    let (_, _, absolute) = parts(&server.try_create(short).await.expect("a session"));
    let (_, _, idle) = parts(&server.create("ada").await);
    server.advance(chrono::Duration::hours(1));
    for (refresh, end) in [(absolute, "ABSOLUTE_TIMEOUT"), (idle, "IDLE_TIMEOUT")] {
        let refusal = server.refresh(&refresh).await.expect_err("a refusal");
        let metadata = [("end_reason", end)];
        assert_refused(&refusal, Code::FailedPrecondition, "SESSION_EXPIRED", &metadata);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_data_regression_ends_the_session_and_raises_an_alert() {
    let server = start().await;
    let (id, _, first) = parts(&server.create("ada").await);
    let next = server.refresh(&first).await.expect("a successor").tokens.expect("tokens");
    server.meddle("UPDATE user_sessions SET generation = 1").await;
    let refusal = server.refresh(&next.refresh_token).await.expect_err("a refusal");
    let metadata = [("end_reason", "DATA_REGRESSION")];
    assert_refused(&refusal, Code::FailedPrecondition, "SESSION_DATA_REGRESSION", &metadata);

    let session = server.get(&id).await.expect("a session");
    assert_eq!(session.end_reason(), pb::EndReason::DataRegression);
    let request = pb::ListAlertsRequest::default();
    let raised = server.list_alerts(request).await.expect("a list").alerts;
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].category(), pb::Category::DataIntegrity);
    assert_eq!(raised[0].session_id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_state_invalid_and_etag_mismatch_refuse_a_step() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    let step = pb::ResolveAlertRequest {
        alert_id: alert.alert_id.clone(),
        resolution: 1,
        ..Default::default()
    };
    let stale = pb::ResolveAlertRequest { etag: "stale".to_owned(), ..step.clone() };
    let refusal = server.resolve(stale).await.expect_err("a refusal");
    assert_refused(&refusal, Code::Aborted, "ETAG_MISMATCH", &[]);
    server.resolve(step.clone()).await.expect("an alert");
    let refusal = server
        .resolve(pb::ResolveAlertRequest { resolution: 2, ..step })
        .await
        .expect_err("a refusal");
    let metadata = [("state", "RESOLVED")];
    assert_refused(&refusal, Code::FailedPrecondition, "ALERT_STATE_INVALID", &metadata);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_is_internal_and_the_answer_is_a_fixed_sentence() {
    let server = start().await;
    let alert = server.steal_from("ada").await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    server.meddle("UPDATE user_sessions SET metadata = '[\"s3cret\"]'").await;
    server.meddle("UPDATE security_alerts SET evidence = '\"s3cret\"'").await;
    let refusals = [
        server.get(&id).await.expect_err("damaged"),
        server.try_validate_now(&access).await.expect_err("damaged"),
        server.refresh(&refresh).await.expect_err("damaged"),
        server.terminate(&id).await.expect_err("damaged"),
        server.get_alert(&alert.alert_id).await.expect_err("damaged"),
    ];
    for refusal in refusals {
        assert_refused(&refusal, Code::Internal, "INTERNAL", &[]);
        let text = "internal error; the log has the details under the request id";
        assert_eq!(refusal.message(), text);
    }
    // The damaged row is skipped by lists.
    let sessions = server.list_sessions(pb::ListSessionsRequest::default()).await.expect("a page");
    assert_eq!(sessions.sessions, []);
    let alerts = server.list_alerts(pb::ListAlertsRequest::default()).await.expect("a page");
    assert_eq!(alerts.alerts, []);
    still_serves(&server).await;
}

async fn still_serves(server: &TestServer) {
    let (_, access, _) = parts(&server.create("bob").await);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
}
