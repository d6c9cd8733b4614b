//! AddAlertNote, and the principals that work on an alert.

use sessiond::grpc::pb;
use tonic::{Code, Status};

use crate::alert_raise::report;
use crate::harness::calls::{reason, violations};
use crate::harness::creates::text;
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, start};

const NOTED: i16 = 17;

fn noting(alert: &str, note: &str) -> pb::AddAlertNoteRequest {
    let (alert_id, note) = (alert.to_owned(), note.to_owned());
    pb::AddAlertNoteRequest { alert_id, note, ..Default::default() }
}

fn assigning(alert: &str, assignee: &str) -> pb::AddAlertNoteRequest {
    pb::AddAlertNoteRequest { assignee: Some(assignee.to_owned()), ..noting(alert, "") }
}

async fn note(
    server: &TestServer,
    request: pb::AddAlertNoteRequest,
) -> Result<pb::SecurityAlert, Status> {
    let answer = server.alerts().add_alert_note(request).await?.into_inner();
    Ok(answer.alert.expect("an alert"))
}

fn texts(alert: &pb::SecurityAlert) -> Vec<&str> {
    alert.notes.iter().map(|note| note.note.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_taken_in_every_state_and_moves_none() {
    let server = start().await;
    let alert = server.raise(report("ada")).await.expect("an alert");
    let id = &alert.alert_id;
    let first = note(&server, noting(id, "seen")).await.expect("an alert");
    assert_eq!((first.state(), texts(&first)), (pb::AlertState::Open, vec!["seen"]));
    assert_ne!(first.etag, alert.etag);
    let request = pb::ResolveAlertRequest {
        alert_id: id.clone(),
        resolution: pb::Resolution::FalsePositive.into(),
        ..Default::default()
    };
    let resolved = server.resolve(request).await.expect("an alert");
    let after = note(&server, noting(id, "a drill")).await.expect("an alert");
    assert_eq!((after.state(), texts(&after)), (pb::AlertState::Resolved, vec!["seen", "a drill"]));
    assert_eq!(after.suppressed_until_time, resolved.suppressed_until_time, "its like stays so");
    assert_eq!(server.activities(NOTED).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignee_comes_with_a_step_or_a_note_and_goes_when_it_is_cleared() {
    let server = start().await;
    let alert = server.raise(report("ada")).await.expect("an alert");
    let id = &alert.alert_id;
    assert_eq!(alert.assignee, "");
    let taken = pb::AcknowledgeAlertRequest {
        alert_id: id.clone(),
        assignee: Some("eve".to_owned()),
        ..Default::default()
    };
    assert_eq!(server.acknowledge(taken).await.expect("an alert").assignee, "eve");
    let noted = note(&server, noting(id, "looking")).await.expect("an alert");
    assert_eq!(noted.assignee, "eve", "unset leaves it");
    let moved = note(&server, assigning(id, &text(128))).await.expect("an alert");
    assert_eq!((moved.assignee, moved.notes.len()), (text(128), 1));
    let request = pb::ResolveAlertRequest {
        alert_id: id.clone(),
        resolution: pb::Resolution::Benign.into(),
        ..Default::default()
    };
    assert_eq!(server.resolve(request).await.expect("an alert").assignee, text(128));
    let again = pb::ReopenAlertRequest {
        alert_id: id.clone(),
        assignee: Some("mallory".to_owned()),
        ..Default::default()
    };
    assert_eq!(server.reopen(again).await.expect("an alert").assignee, "mallory");
    let nobody = note(&server, assigning(id, "")).await.expect("an alert");
    assert_eq!(nobody.assignee, "");
    assert_eq!(server.get_alert(id).await.expect("an alert"), nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_refused_with_all_that_is_wrong() {
    let server = start().await;
    let alert = server.raise(report("ada")).await.expect("an alert");
    let id = &alert.alert_id;
    let refused = async |request| note(&server, request).await.expect_err("a refusal");
    assert_eq!(violations(&refused(noting(id, "")).await), ["note"]);
    let wrong = pb::AddAlertNoteRequest {
        tenant_id: "a b".to_owned(),
        assignee: Some(text(129)),
        request_id: "x".to_owned(),
        ..noting("x", &text(1001))
    };
    let fields = ["request_id", "tenant_id", "alert_id", "note", "assignee"];
    assert_eq!(violations(&refused(wrong).await), fields);
    let absent = refused(noting(NOBODY, "x")).await;
    assert_eq!((absent.code(), reason(&absent).as_str()), (Code::NotFound, "ALERT_NOT_FOUND"));
    let stale = pb::AddAlertNoteRequest { etag: "77".to_owned(), ..noting(id, "x") };
    assert_eq!(reason(&refused(stale).await), "ETAG_MISMATCH");
    for _ in 0..100 {
        note(&server, noting(id, &text(1000))).await.expect("an alert");
    }
    assert_eq!(reason(&refused(noting(id, "one more")).await), "ALERT_NOTES_FULL");
    assert_eq!(note(&server, assigning(id, "eve")).await.expect("an alert").assignee, "eve");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_note_is_one() {
    let server = start().await;
    let alert = server.raise(report("ada")).await.expect("an alert");
    let request = pb::AddAlertNoteRequest {
        request_id: NOBODY.to_owned(),
        ..noting(&alert.alert_id, "once")
    };
    for _ in 0..2 {
        let noted = note(&server, request.clone()).await.expect("an alert");
        assert_eq!(texts(&noted), ["once"]);
    }
    let other = pb::AddAlertNoteRequest { note: "twice".to_owned(), ..request };
    let refusal = note(&server, other).await.expect_err("another body");
    assert_eq!(reason(&refusal), "REQUEST_ID_REUSED");
    assert_eq!(server.activities(NOTED).await, 1);
}
