//! ReauthenticateSession: limits of its fields, and repeated requests.

use chrono::Duration;
use futures_util::future::join_all;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{new_session, parts, reason, successor, violations};
use crate::harness::requests::{NOBODY, stamp};
use crate::harness::stepping::second_factor;
use crate::harness::{audit, start};

const ID: &str = "0195f8a0-0000-7000-8000-000000000001";
const OTHER: &str = "0195f8a0-0000-7000-8000-000000000002";

fn as_request(session_id: &str, id: &str) -> pb::ReauthenticateSessionRequest {
    pb::ReauthenticateSessionRequest { request_id: id.to_owned(), ..second_factor(session_id) }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_violations_are_told_at_once() {
    let server = start().await;
    let now = server.clock.now();
    let request = pb::ReauthenticateSessionRequest {
        tenant_id: "a b".to_owned(),
        session_id: "x".to_owned(),
        user_id: "a\0b".to_owned(),
        authentication: Some(pb::Authentication {
            acr: "a".repeat(129),
            amr: vec!["a".to_owned(); 17],
            auth_time: stamp(now + Duration::seconds(5) + Duration::microseconds(1)),
        }),
        client: Some(pb::ClientContext { ip_address: "x".to_owned(), ..Default::default() }),
        request_id: "x".to_owned(),
        scope: Some(" ".to_owned()),
        claims: None,
    };
    let refusal = server.reauthenticate(request).await.expect_err("a refusal");
    assert_eq!(reason(&refusal), "INVALID_FIELD");
    let fields = [
        "request_id",
        "tenant_id",
        "user_id",
        "session_id",
        "authentication.acr",
        "authentication.amr",
        "authentication.auth_time",
        "scope",
        "client.ip_address",
    ];
    assert_eq!(violations(&refusal), fields);
    let request = pb::ReauthenticateSessionRequest::default();
    let refusal = server.reauthenticate(request).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["session_id", "authentication"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_edges_of_an_authentication_are_taken() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    let ahead = stamp(server.clock.now() + Duration::seconds(5));
    for (acr, methods, length, auth_time) in
        [("a".repeat(128), 16, 64, ahead), (String::new(), 1, 1, None)]
    {
        let mut request = second_factor(&id);
        let amr = vec!["m".repeat(length); methods];
        let stated = pb::Authentication { acr, amr, auth_time };
        request.authentication = Some(stated.clone());
        let answer = server.reauthenticate(request).await.expect("within the limits");
        let kept = answer.session.expect("a session").authentication.expect("one");
        assert_eq!((&kept.acr, &kept.amr), (&stated.acr, &stated.amr));
    }
    for (acr, amr) in [("a b", "pwd"), ("\"", "pwd"), ("aal2", ""), ("aal2", "a\\b")] {
        let mut request = second_factor(&id);
        let stated = pb::Authentication {
            acr: acr.to_owned(),
            amr: vec![amr.to_owned()],
            ..Default::default()
        };
        request.authentication = Some(stated);
        let refusal = server.reauthenticate(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal).len(), 1, "{acr:?} {amr:?}");
    }
    assert_eq!(server.activities(7).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_one_step_up_with_the_same_answer() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, ..) = parts(&server.create("ada").await);
    let first = server.reauthenticate(as_request(&id, ID)).await.expect("a step-up");
    for again in [&server, &replica, &server] {
        let again = again.reauthenticate(as_request(&id, ID)).await.expect("the same");
        assert_eq!((again.session, again.tokens), (first.session.clone(), first.tokens.clone()));
        server.advance(Duration::seconds(1));
    }
    let mut other = as_request(&id, ID);
    other.authentication.as_mut().expect("one").acr = "aal3".to_owned();
    let named =
        pb::ReauthenticateSessionRequest { user_id: "ada".to_owned(), ..as_request(&id, ID) };
    let (second, ..) = parts(&server.create("ada").await);
    for request in [other, named, as_request(&second, ID)] {
        let refusal = server.reauthenticate(request).await.expect_err("another body");
        let answer = (refusal.code(), reason(&refusal));
        assert_eq!(answer, (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
    }
    let unknown = server.reauthenticate(as_request(NOBODY, OTHER)).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    server.step_up(&second).await;
    assert_eq!(server.activities(7).await, 2);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_gives_no_tokens_that_are_no_longer_the_latest() {
    let server = start().await;
    let again = async |id: &str, request: &str| {
        let answer = server.reauthenticate(as_request(id, request)).await.expect("an answer");
        assert_eq!(answer.session.as_ref(), Some(&server.get(id).await.expect("a session")));
        answer.tokens
    };
    // Tokens that were exchanged, then superseded, then of an ended session.
    let (id, ..) = parts(&server.create("ada").await);
    let first = again(&id, ID).await.expect("tokens");
    assert_eq!(again(&id, ID).await.as_ref(), Some(&first));
    let next = successor(server.refresh(&first.refresh_token).await);
    assert_eq!(again(&id, ID).await, None);
    server.advance(Duration::seconds(1));
    let second = again(&id, OTHER).await.expect("tokens");
    assert_eq!(again(&id, ID).await, None);
    assert_eq!(again(&id, OTHER).await.as_ref(), Some(&second));
    server.assert_superseded(&next.access_token).await;
    server.terminate(&id).await.expect("ok");
    assert_eq!(again(&id, OTHER).await, None);
    assert_eq!(server.activities(7).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_create_does_not_give_superseded_tokens() {
    let server = start().await;
    let create = || pb::CreateSessionRequest { request_id: ID.to_owned(), ..new_session("ada") };
    let first = server.try_create(create()).await.expect("a session");
    let (id, ..) = parts(&first);
    server.step_up(&id).await;
    let again = server.try_create(create()).await.expect("the same");
    assert_eq!(again.session.expect("a session").session_id, id);
    assert_eq!(again.tokens, None, "they would carry the new authentication");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_parallel_repeats_on_two_replicas_one_steps_up() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, ..) = parts(&server.create("ada").await);
    let calls = (0..32).map(|i| {
        let server = if i % 2 == 0 { &server } else { &replica };
        server.reauthenticate(as_request(&id, ID))
    });
    let answers: Vec<_> =
        join_all(calls).await.into_iter().map(|answer| answer.expect("the same")).collect();
    let first = (&answers[0].session, &answers[0].tokens);
    assert!(answers.iter().all(|answer| (&answer.session, &answer.tokens) == first));
    assert!(answers[0].tokens.is_some());
    assert_eq!(server.activities(7).await, 1);
    audit::check(&server.db).await;
}
