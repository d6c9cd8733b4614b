//! Key rotation on two replicas under load: no valid token is refused.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use chrono::Duration as Length;
use futures_util::future::join;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;
use sessiond::grpc::pb;
use sessiond::server::Settings;
use sessiond::token::jwk::SigningAlgorithm;
use sessiond::token::key_life::{KeyState, Purpose};

use crate::harness::calls::{parts, refusal, successor};
use crate::harness::keys::{AHEAD, header};
use crate::harness::{TestServer, start, start_with, wait};

/// Tokens that outlast a rotation.
fn long(settings: &mut Settings) {
    settings.policy.idle_timeout = None;
    settings.policy.absolute_timeout = Length::days(365);
    settings.policy.access_token_ttl = Length::hours(24);
}

/// Creates, refreshes and validates, alternating between the servers, until stopped; returns how often.
async fn use_both(one: &TestServer, two: &TestServer, stop: &AtomicBool) -> u32 {
    let served = AtomicU32::new(0);
    let work = async |here: &TestServer, there: &TestServer| {
        while !stop.load(Ordering::SeqCst) {
            let (_, access, refresh) = parts(&here.create("ada").await);
            let next = successor(there.refresh(&refresh).await);
            // Before the successor is used, since the clock jumps.
            assert_eq!(successor(here.refresh(&refresh).await).refresh_token, next.refresh_token);
            for token in [&access, &next.access_token] {
                for server in [here, there] {
                    assert_eq!(server.validate(token).await.outcome(), pb::Outcome::Active);
                }
            }
            served.fetch_add(1, Ordering::SeqCst);
        }
    };
    join(work(one, two), work(two, one)).await;
    served.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_refuses_no_token_on_either_replica() {
    let one = start_with(long).await;
    let two = one.replica_with(long).await;
    let (_, first, _) = parts(&one.create("ada").await);
    let stop = AtomicBool::new(false);
    let rotating = async {
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa]
        {
            for purpose in Purpose::ALL {
                let old = one.signing(purpose).await;
                let named = (purpose == Purpose::Access).then_some(algorithm);
                let work = one.key_work();
                let new = work.rotate(purpose, named).await.expect("ok").expect("a successor");
                assert_eq!(new.state, KeyState::Published);
                assert_eq!(new.life.since() - one.clock.now(), AHEAD);
                let again = work.rotate(purpose, named).await.expect("ok").expect_err("one waits");
                assert!(again.0.contains(&new.kid), "{}", again.0);
                if purpose == Purpose::Access {
                    wait::until(async || {
                        let (here, there) = join(one.published(), two.published()).await;
                        here == there && here.contains(&new.kid)
                    })
                    .await;
                }
                one.advance(AHEAD - Length::microseconds(1));
                assert_eq!(one.signing(purpose).await.kid, old.kid);
                one.advance(Length::microseconds(1));
                assert_eq!(one.signing(purpose).await.kid, new.kid);
                if purpose == Purpose::Access {
                    join(one.until_signed_with(&new.kid), two.until_signed_with(&new.kid)).await;
                    let (_, token, _) = parts(&two.create("ada").await);
                    assert_eq!(header(&token)["alg"], algorithm.name());
                    verify_with_the_key_set_alone(&one.key_set().await, &token);
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (served, ()) = join(use_both(&one, &two, &stop), rotating).await;
    assert!(served > 20, "{served}");
    // The first token, whose key has retired three times over, is valid to its end, and the key for an hour longer.
    let first_kid = header(&first)["kid"].as_str().expect("a kid").to_owned();
    let left = Length::hours(24) - AHEAD * 6;
    one.advance(left - Length::seconds(1));
    for server in [&one, &two] {
        assert_eq!(server.validate(&first).await.outcome(), pb::Outcome::Active);
    }
    // `exp` is rounded up to a whole second.
    one.advance(Length::seconds(2));
    for server in [&one, &two] {
        let why = server.validate(&first).await.inactive_reason();
        assert_eq!(why, pb::InactiveReason::TokenExpired);
    }
    one.advance(Length::minutes(70) - Length::seconds(2));
    assert!(two.published().await.contains(&first_kid));
    one.advance(Length::seconds(1));
    assert!(!two.published().await.contains(&first_kid));
    let why = two.validate(&first).await.inactive_reason();
    assert_eq!(why, pb::InactiveReason::SignatureInvalid);
}

fn verify_with_the_key_set_alone(set: &pb::GetJsonWebKeySetResponse, token: &str) {
    let jwks: JwkSet = serde_json::from_str(&set.jwks_json).expect("a JWK set");
    let head = jsonwebtoken::decode_header(token).expect("a header");
    let jwk = jwks.find(&head.kid.expect("a kid")).expect("the key of the token");
    let key = DecodingKey::from_jwk(jwk).expect("a key");
    let mut rules = Validation::new(head.alg);
    // The servers' clock is manual.
    rules.validate_exp = false;
    rules.set_audience(&["sessiond"]);
    let verified = jsonwebtoken::decode::<Value>(token, &key, &rules).expect("a good token");
    assert_eq!(verified.claims["sub"], "ada");
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_tokens_outlive_the_rotation_of_their_mac_key_and_replays_stay_replays() {
    let one = start_with(long).await;
    let two = one.replica_with(long).await;
    let (id, _, before) = parts(&one.create("ada").await);
    let (_, _, also) = parts(&one.create("bob").await);
    let next = successor(two.refresh(&also).await).refresh_token;
    let new = one.key_work().rotate(Purpose::Refresh, None).await.expect("ok").expect("one");
    one.advance(AHEAD);
    assert_eq!(one.signing(Purpose::Refresh).await.kid, new.kid);
    // A retry across the rotation, whose first answer was made under the old key.
    assert_eq!(successor(one.refresh(&also).await).refresh_token, next);
    // A token of before, whose successor is made under the new key; a retry on the other replica gets the same bytes.
    let after = successor(one.refresh(&before).await).refresh_token;
    assert_eq!(successor(two.refresh(&before).await).refresh_token, after);
    let third = successor(two.refresh(&after).await).refresh_token;
    assert_eq!(one.refresh(&third).await.expect("ok").session.expect("one").refresh_generation, 4);
    assert_eq!(refusal(one.refresh(&before).await), "REFRESH_TOKEN_REUSED");
    assert_eq!(one.get(&id).await.expect("it").end_reason(), pb::EndReason::RefreshReuse);
    // A year later, the oldest possible token is still valid, and then its key is gone.
    let left = Length::days(365) - AHEAD - Length::seconds(1);
    one.advance(left);
    let request = successor(one.refresh(&next).await);
    assert!(request.refresh_token != next);
    one.advance(Length::hours(2));
    let state =
        one.keys().await.into_iter().find(|key| key.kid == "refresh-1").map(|key| key.state);
    assert_eq!(state, Some(KeyState::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn page_tokens_cursors_and_conflicts_outlive_the_rotation_of_mac_keys() {
    let server = start().await;
    for _ in 0..3 {
        server.create("ada").await;
    }
    let list = async |page_token: &str| {
        let filter = Some(pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() });
        let page_token = page_token.to_owned();
        let request =
            pb::ListSessionsRequest { filter, page_size: 1, page_token, ..Default::default() };
        server.sessions().list_sessions(request).await.map(|page| page.into_inner())
    };
    let first = list("").await.expect("a page");
    let cursor = server.watch("").await.cursor;
    server.key_work().rotate(Purpose::Refresh, None).await.expect("ok").expect("one");
    server.advance(AHEAD);
    let second = list(&first.next_page_token).await.expect("a page");
    assert_ne!(second.sessions, first.sessions);
    let third = list(&second.next_page_token).await.expect("a page of the new key");
    assert_eq!(third.next_page_token, "");
    let mut watch = server.watch(&cursor).await;
    let (id, ..) = parts(&server.create("ada").await);
    let event = watch.event().await.expect("an event");
    assert_eq!(event.session_id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_rotate_at_once_one_does() {
    let server = start().await;
    server.advance(Length::days(90));
    for purpose in Purpose::ALL {
        let many = (0..16).map(|_| {
            let work = server.key_work();
            tokio::spawn(async move { work.rotate_if_older(purpose, Length::days(90)).await })
        });
        let mut made = Vec::new();
        for one in many.collect::<Vec<_>>() {
            // Those whose lock wait timed out rotate at their next turn.
            made.extend(one.await.expect("no panic").ok().flatten());
        }
        assert_eq!(made.len(), 1, "{made:?}");
    }
    assert_eq!(server.keys().await.len(), 4);
    let soon = server.key_work().rotate_if_older(Purpose::Access, Length::days(90)).await;
    assert_eq!(soon.expect("ok"), None);
    // A standby does not prevent a rotation.
    let (standby, days) = (Length::days(3650), Length::days(90));
    let work = server.key_work();
    let standby = work.publish(Purpose::Access, SigningAlgorithm::Es256, standby).await;
    server.advance(days + AHEAD);
    // The partition of that month is being created; a call that loses the race retries.
    let standby = standby.expect("one").life.signs_from;
    let mut next = None;
    wait::until(async || {
        next = work.rotate_if_older(Purpose::Access, days).await.ok();
        next.is_some()
    })
    .await;
    assert_eq!(next.flatten().expect("one").life.retires_at, standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_rotate_by_themselves_and_forget_what_is_gone() {
    let rotating = |settings: &mut Settings| {
        settings.key_rotation = Duration::from_secs(90 * 86_400);
        settings.intervals.rotate = Duration::from_millis(20);
    };
    let one = start_with(rotating).await;
    let two = one.replica_with(rotating).await;
    let first = one.signing(Purpose::Access).await.kid;
    one.advance(Length::days(90) - Length::seconds(1));
    one.create("ada").await;
    assert_eq!(one.keys().await.len(), 2);
    one.advance(Length::seconds(1));
    wait::until(async || one.keys().await.len() == 4).await;
    wait::until(async || two.published().await.len() == 2).await;
    one.advance(AHEAD);
    let second = one.signing(Purpose::Access).await;
    assert_ne!(second.kid, first);
    join(one.until_signed_with(&second.kid), two.until_signed_with(&second.kid)).await;
    // A day and an hour until the key is gone, and a week more in the list.
    one.advance(Length::days(8) + Length::hours(1));
    wait::until(async || !one.keys().await.iter().any(|key| key.kid == first)).await;
    assert_eq!(one.keys().await.len(), 3, "the MAC keys stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_has_the_algorithm_that_is_set() {
    for algorithm in SigningAlgorithm::ALL {
        let server = start_with(|settings| settings.key_algorithm = algorithm).await;
        let (_, access, refresh) = parts(&server.create("ada").await);
        assert_eq!(header(&access)["alg"], algorithm.name());
        assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
        successor(server.refresh(&refresh).await);
    }
}
