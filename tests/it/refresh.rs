//! The refresh chain: one successor per token, which a retry gets again.

use std::collections::HashSet;

use chrono::Duration;
use futures_util::future::join_all;
use sessiond::grpc::pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::calls::{metadata, new_session, parts, reason, successor};
use crate::harness::{audit, start, start_on, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn parallel_refreshes_of_one_token_get_one_successor() {
    let server = start().await;
    let replica = server.replica().await;
    let (_, _, token) = parts(&server.create("ada").await);
    let calls = (0..64).map(|i| if i % 2 == 0 { &server } else { &replica }.refresh(&token));
    let answers = join_all(calls).await;
    let tokens: HashSet<String> =
        answers.into_iter().map(|answer| successor(answer).refresh_token).collect();
    assert_eq!(tokens.len(), 1, "one byte-identical successor");
    assert!(!tokens.contains(&token));
    assert_eq!(server.activities(2).await, 1);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_never_repeats_a_token_and_goes_on_at_replicas_and_after_a_restart() {
    let server = start().await;
    let replica = server.replica().await;
    let (id, _, mut token) = parts(&server.create("ada").await);
    let mut seen = HashSet::from([token.clone()]);
    for i in 0..20 {
        let server = if i % 2 == 0 { &server } else { &replica };
        token = successor(server.refresh(&token).await).refresh_token;
        assert!(seen.insert(token.clone()), "a token came twice");
    }
    replica.stop().await;
    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, |_| {}).await;
    let next = successor(server.refresh(&token).await);
    assert!(seen.insert(next.refresh_token));
    assert_eq!(seen.len(), 22);
    assert_eq!(server.validate(&next.access_token).await.outcome(), pb::Outcome::Active);
    assert_eq!(server.get(&id).await.expect("a session").refresh_generation, 22);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_same_successor_with_a_fresh_access_token() {
    let server = start().await;
    let (_, _, token) = parts(&server.create("ada").await);
    let first = successor(server.refresh(&token).await);
    server.advance(Duration::seconds(9));
    let again = successor(server.refresh(&token).await);
    assert_eq!(again.refresh_token, first.refresh_token);
    let expiry = |tokens: &pb::TokenPair| tokens.access_token_expire_time.expect("exp").seconds;
    assert_eq!(expiry(&again) - expiry(&first), 9);
    for tokens in [&first, &again] {
        let judged = server.validate(&tokens.access_token).await;
        assert_eq!(judged.outcome(), pb::Outcome::Active);
    }
    let next = successor(server.refresh(&again.refresh_token).await);
    assert_ne!(next.refresh_token, first.refresh_token);
    assert_eq!(server.activities(2).await, 2, "a retry changes nothing");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_moves_the_idle_deadline_and_not_the_absolute_one() {
    let server = start().await;
    let created = server.create("ada").await;
    let (id, _, token) = parts(&created);
    let before = created.session.expect("a session");
    server.advance(Duration::minutes(50));
    let token = successor(server.refresh(&token).await).refresh_token;
    let after = server.get(&id).await.expect("a session");
    let seconds = |time: Option<prost_types::Timestamp>| time.expect("a time").seconds;
    assert_eq!(seconds(after.idle_expire_time) - seconds(before.idle_expire_time), 50 * 60);
    assert_eq!(after.absolute_expire_time, before.absolute_expire_time);

    server.advance(Duration::hours(1) - Duration::microseconds(1));
    let token = successor(server.refresh(&token).await).refresh_token;
    server.advance(Duration::hours(1));
    let status = server.refresh(&token).await.expect_err("too late");
    assert_eq!(reason(&status), "SESSION_EXPIRED");
    assert_eq!(metadata(&status, "end_reason").as_deref(), Some("IDLE_TIMEOUT"));
    assert_eq!(server.activities(4).await, 0, "another replica may still know of activity");
    server.advance(Duration::seconds(10));
    server.refresh(&token).await.expect_err("later still");
    assert_eq!(server.activities(4).await, 1, "it expired in place");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refresh_says_of_the_client_replaces_only_that() {
    let server = start().await;
    let place = |city: &str| pb::Location { city: city.to_owned(), ..Default::default() };
    let context = |ip: &str, agent: &str, location| pb::ClientContext {
        ip_address: ip.to_owned(),
        user_agent: agent.to_owned(),
        location,
        device: Some(pb::DeviceContext {
            display_name: "renamed".to_owned(),
            ..Default::default()
        }),
    };
    let mut request = new_session("ada");
    request.client = Some(context("192.0.2.1", "first/1", Some(place("Graz"))));
    let (id, _, first) = parts(&server.try_create(request).await.expect("a session"));
    let device = server.get(&id).await.expect("a session").device;

    let mut token = first.clone();
    for (said, ip, agent, city) in [
        (context("", "second/2", None), "192.0.2.1", "second/2", Some("Graz")),
        (context("192.0.2.1", "", None), "192.0.2.1", "second/2", Some("Graz")),
        (context("2001:db8::7", "", None), "2001:db8::7", "second/2", None),
        (context("", "", Some(place("Linz"))), "2001:db8::7", "second/2", Some("Linz")),
    ] {
        let request =
            pb::RefreshSessionRequest { refresh_token: token.clone(), client: Some(said) };
        let answer = server.sessions().refresh_session(request).await.expect("ok").into_inner();
        let session = server.get(&id).await.expect("a session");
        assert_eq!(answer.session.as_ref(), Some(&session));
        assert_eq!((session.ip_address.as_str(), session.user_agent.as_str()), (ip, agent));
        assert_eq!(session.location, city.map(place));
        assert_eq!(session.device, device, "a session stays with its device");
        // A retry gets the same answer; its client context is not stored.
        let client = Some(context("203.0.113.9", "retry/9", Some(place("Wels"))));
        let retry = pb::RefreshSessionRequest { refresh_token: token, client };
        server.sessions().refresh_session(retry).await.expect("the same again");
        assert_eq!(server.get(&id).await.expect("a session"), session);
        token = answer.tokens.expect("tokens").refresh_token;
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refreshed_only_so_often_and_theft_is_detected_all_the_same() {
    let server = start_with(|settings| settings.refresh_limit = 5).await;
    let (id, _, first) = parts(&server.create("ada").await);
    let mut token = first.clone();
    for _ in 0..5 {
        token = successor(server.refresh(&token).await).refresh_token;
    }
    // A forged token neither changes the chain nor reveals anything about the session.
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    for _ in 0..10 {
        let status = server.refresh(&forged).await.expect_err("forged");
        assert_eq!(reason(&status), "REFRESH_TOKEN_INVALID");
    }
    let status = server.refresh(&token).await.expect_err("a sixth");
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a wait");
    assert!(wait <= std::time::Duration::from_millis(12_001), "{wait:?}");
    assert_eq!(server.get(&id).await.expect("a session").refresh_generation, 6, "nothing changed");
    let other = parts(&server.create("bob").await).2;
    successor(server.refresh(&other).await);
    let status = server.refresh(&first).await.expect_err("used before");
    assert_eq!(reason(&status), "REFRESH_TOKEN_REUSED");
    audit::check(&server.db).await;
}
