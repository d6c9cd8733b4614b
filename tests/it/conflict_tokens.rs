//! Conflict tokens: valid once, for five minutes, for one user at one client, and only unmodified.

use chrono::Duration;
use futures_util::future::join_all;
use sessiond::grpc::pb;
use sessiond::model::conflict::LimitScope;
use sessiond::model::policy::OnLimit;

use crate::harness::calls::{new_session, parts, violations};
use crate::harness::conflicts::{assert_token_invalid, conflict, limit, settling, start_asking};
use crate::harness::requests::{NOBODY, stamp};
use crate::harness::{TestServer, audit, start_on};

/// Ada at her limit of one session: its id, and the conflict of another create.
async fn asked() -> (TestServer, String, pb::SessionConflict) {
    let server = start_asking(1).await;
    let (id, ..) = parts(&server.create("ada").await);
    let conflict = conflict(server.try_create(new_session("ada")).await);
    (server, id, conflict)
}

async fn assert_untouched(server: &TestServer, id: &str) {
    let session = server.get(id).await.expect("a session");
    assert_eq!(session.state(), pb::SessionState::Active);
    assert_eq!((server.activities(1).await, server.activities(3).await), (1, 0));
    assert_eq!(server.db.count("SELECT count(*) FROM requests").await, 0);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_settles_once() {
    let (server, id, conflict) = asked().await;
    let token = conflict.conflict_token;
    let settled = server.try_create(settling(new_session("ada"), &token, &[&id])).await;
    let (second, ..) = parts(&settled.expect("a session"));
    for chosen in [&id, &second] {
        let again = settling(new_session("ada"), &token, &[chosen]);
        assert_token_invalid(server.try_create(again).await, "a used token");
    }
    server.terminate(&second).await.expect("ok");
    let again = settling(new_session("ada"), &token, &[&second]);
    assert_token_invalid(server.try_create(again).await, "a used token, though there is room");
    assert_eq!((server.activities(1).await, server.activities(3).await), (2, 2));
    audit::check(&server.db).await;

    let row = "SELECT r::text FROM requests r";
    let row: String = server.db.connect().await.query_one(row, &[]).await.expect("one").get(0);
    assert!(!row.contains(&token), "{row}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_for_five_minutes_to_the_microsecond() {
    let (server, id, conflict) = asked().await;
    let expires = server.clock.now() + Duration::minutes(5);
    assert_eq!(conflict.conflict_token_expire_time, stamp(expires));
    server.advance(Duration::minutes(5));
    let request = settling(new_session("ada"), &conflict.conflict_token, &[&id]);
    assert_token_invalid(server.try_create(request.clone()).await, "at its end");
    assert_untouched(&server, &id).await;
    server.advance(-Duration::microseconds(1));
    server.try_create(request).await.expect("a microsecond before");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_worth_nothing_to_another_user_client_or_tenant() {
    let (server, id, conflict) = asked().await;
    let token = conflict.conflict_token;
    let tenant_id = "acme".to_owned();
    let others = [
        new_session("bob"),
        pb::CreateSessionRequest { client_id: "tv".to_owned(), ..new_session("ada") },
        pb::CreateSessionRequest { tenant_id, ..new_session("ada") },
    ];
    for other in others {
        let shown = format!("{other:?}");
        assert_token_invalid(server.try_create(settling(other, &token, &[&id])).await, &shown);
    }
    let stranger = start_asking(1).await;
    let request = settling(new_session("ada"), &token, &[&id]);
    assert_token_invalid(stranger.try_create(request).await, "a token of another database");
    assert_untouched(&server, &id).await;
    let settled = server.try_create(settling(new_session("ada"), &token, &[&id])).await;
    settled.expect("the token is not used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_changed_cut_or_extended_token_settles() {
    let (server, id, conflict) = asked().await;
    let token = conflict.conflict_token;
    let mut spoilt: Vec<String> = (1..token.len()).map(|at| token[..at].to_owned()).collect();
    for at in 0..token.len() {
        for flip in [1, 2, 32] {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] ^= flip;
            spoilt.push(String::from_utf8(bytes).expect("ASCII stays ASCII"));
        }
    }
    spoilt.extend(["A", "=", "==", " ", "\n", "\0", "AAAA"].map(|end| format!("{token}{end}")));
    spoilt.extend([token.repeat(2), "a".repeat(10_000), "\u{202e}".to_owned()]);
    for token in spoilt {
        let request = settling(new_session("ada"), &token, &[&id]);
        assert_token_invalid(server.try_create(request).await, &token);
    }
    assert_untouched(&server, &id).await;
    let request = settling(new_session("ada"), &token, &[&id]);
    server.try_create(request).await.expect("the token itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_settlings_with_one_token_exactly_one_wins() {
    let server = start_asking(4).await;
    let change = |settings: &mut _| limit(settings, LimitScope::User, 4, OnLimit::Ask);
    let replica = server.replica_with(change).await;
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(parts(&server.create("ada").await).0);
    }
    let token = conflict(server.try_create(new_session("ada")).await).conflict_token;
    let calls = (0..32).map(|i| {
        let server = if i % 2 == 0 { &server } else { &replica };
        server.try_create(settling(new_session("ada"), &token, &[&made[i % 4]]))
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 31));
    for answer in lost {
        assert_token_invalid(answer, "the token was used");
    }
    assert_eq!(server.activities(3).await, 1);
    let live = "SELECT count(*) FROM user_sessions WHERE state = 1";
    assert_eq!(server.db.count(live).await, 4);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_create_can_be_repeated_by_its_request_id() {
    let (server, id, conflict) = asked().await;
    let request = settling(new_session("ada"), &conflict.conflict_token, &[&id]);
    let request_id = "0195f8a0-0000-7000-8000-000000000001".to_owned();
    let request = pb::CreateSessionRequest { request_id, ..request };
    let first = server.try_create(request.clone()).await.expect("a session");
    assert_eq!(first.terminated_sessions.len(), 1);
    let same = async || {
        let again = server.try_create(request.clone()).await.expect("the same");
        assert!(!again.watermark.is_empty());
        let watermark = first.watermark.clone();
        assert_eq!(pb::CreateSessionResponse { watermark, ..again }, first);
    };
    same().await;
    server.advance(Duration::minutes(5));
    same().await;
    let without = pb::CreateSessionRequest { request_id: String::new(), ..request.clone() };
    assert_token_invalid(server.try_create(without).await, "a used token");
    assert_eq!((server.activities(1).await, server.activities(3).await), (2, 1));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_comes_with_a_token_and_has_1_to_100_uuids() {
    let (server, id, conflict) = asked().await;
    let token = conflict.conflict_token;
    let field = "terminate_session_ids";
    let many = vec![NOBODY; 101];
    let broken: [(&str, &[&str], &[&str]); 4] = [
        ("", &[&id], &[field]),
        (&token, &[], &[field]),
        (&token, &many, &[field]),
        (&token, &[&id, "x", ""], &["terminate_session_ids[1]", "terminate_session_ids[2]"]),
    ];
    for (token, chosen, fields) in broken {
        let request = settling(new_session("ada"), token, chosen);
        let refusal = server.try_create(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), fields, "{chosen:?}");
    }
    assert_untouched(&server, &id).await;
    let mut many = many[1..].to_vec();
    many[99] = &id;
    let request = settling(new_session("ada"), &token, &many);
    server.try_create(request).await.expect("a hundred");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_limit_any_more_still_ends_the_chosen() {
    let (server, id, conflict) = asked().await;
    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, |_| {}).await;
    let request = settling(new_session("ada"), &conflict.conflict_token, &[&id]);
    let settled = server.try_create(request).await.expect("a session");
    assert_eq!(settled.terminated_sessions.len(), 1);
    audit::check(&server.db).await;
}
