//! TerminateSessions: refused requests, which end no session.

use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{metadata, reason, violations};
use crate::harness::{TestServer, start};

fn of_ada() -> pb::TerminateSessionsRequest {
    let filter = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    pb::TerminateSessionsRequest { filter: Some(filter), ..Default::default() }
}

async fn refused(server: &TestServer, request: pb::TerminateSessionsRequest) -> Vec<String> {
    let shown = format!("{request:?}");
    let refusal = server.terminate_many(request).await.expect_err(&shown);
    assert_eq!(reason(&refusal), "INVALID_FIELD", "{shown}");
    violations(&refusal)
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_expected_are_left_alone() {
    let server = start().await;
    for _ in 0..3 {
        server.create("ada").await;
    }
    let spared = server.create("ada").await.session.expect("a session").session_id;
    let expecting = |expected_max, dry_run| {
        let except_session_id = spared.clone();
        pb::TerminateSessionsRequest { expected_max, dry_run, except_session_id, ..of_ada() }
    };
    for dry_run in [false, true] {
        for expected_max in [1, 2] {
            let call = server.terminate_many(expecting(expected_max, dry_run)).await;
            let refusal = call.expect_err("too many");
            assert_eq!(refusal.code(), Code::FailedPrecondition);
            assert_eq!(reason(&refusal), "EXPECTED_MAX_EXCEEDED");
            assert_eq!(metadata(&refusal, "matching").as_deref(), Some("3"));
        }
    }
    assert_eq!(server.activities(3).await, 0);
    let said = server.terminate_many(expecting(3, true)).await.expect("a dry run");
    assert_eq!((said.terminated_count, server.activities(3).await), (3, 0));
    let done = server.terminate_many(expecting(3, false)).await.expect("an end");
    assert_eq!((done.terminated_count, server.activities(3).await), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_not_ended_by_leaving_the_filter_out() {
    let server = start().await;
    server.create("ada").await;
    let nothing = pb::TerminateSessionsRequest::default();
    assert_eq!(refused(&server, nothing.clone()).await, ["filter"]);
    let empty = Some(pb::SessionFilter::default());
    let request = pb::TerminateSessionsRequest { filter: empty, ..nothing.clone() };
    assert_eq!(refused(&server, request).await, ["filter"]);
    let state = pb::SessionState::Active.into();
    let active = Some(pb::SessionFilter { state, ..Default::default() });
    let request = pb::TerminateSessionsRequest { filter: active, ..nothing };
    assert_eq!(refused(&server, request.clone()).await, ["filter"]);
    let both = pb::TerminateSessionsRequest { whole_tenant: true, ..of_ada() };
    assert_eq!(refused(&server, both).await, ["filter"]);
    assert_eq!(server.activities(3).await, 0);

    let whole = pb::TerminateSessionsRequest { whole_tenant: true, ..request };
    assert_eq!(server.terminate_many(whole).await.expect("an end").terminated_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_and_states_that_callers_may_not_give_are_refused() {
    let server = start().await;
    server.create("ada").await;
    for reason in (1..=13).filter(|number| ![1, 2, 5, 7].contains(number)) {
        let request = pb::TerminateSessionsRequest { reason, ..of_ada() };
        assert_eq!(refused(&server, request).await, ["reason"], "{reason}");
    }
    for state in [pb::SessionState::Terminated, pb::SessionState::Expired] {
        let mut request = of_ada();
        request.filter.as_mut().expect("a filter").state = state.into();
        assert_eq!(refused(&server, request).await, ["filter.state"], "{state:?}");
    }
    assert_eq!(server.activities(3).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_violations_are_told_at_once() {
    let server = start().await;
    let filter = pb::SessionFilter { ip_prefix: "x".to_owned(), ..Default::default() };
    let request = pb::TerminateSessionsRequest {
        tenant_id: "a b".to_owned(),
        filter: Some(filter),
        except_session_id: "x".to_owned(),
        reason: pb::EndReason::Limit.into(),
        note: "n".repeat(513),
        ..Default::default()
    };
    let broken = refused(&server, request).await;
    let fields = ["tenant_id", "filter.ip_prefix", "except_session_id", "reason", "note"];
    assert_eq!(broken, fields);
}
