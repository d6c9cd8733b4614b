//! Keys that are removed in an emergency, and tokens that name another key.

use std::time::{Duration, Instant};

use chrono::Duration as Length;
use serde_json::json;
use sessiond::clock::Clock;
use sessiond::gateway::{Gateway, GatewayOptions, Verdict};
use sessiond::grpc::pb;
use sessiond::grpc::pb::InactiveReason as Why;
use sessiond::token::jwk::SigningAlgorithm;
use sessiond::token::key_life::{KeyState, Purpose};
use sessiond::token::key_work::Retired;

use crate::harness::calls::{assert_unavailable, parts, refusal};
use crate::harness::cluster::Db;
use crate::harness::forge::{claims, start_with_forge};
use crate::harness::keys::{AHEAD, header};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{TestServer, start, start_on, wait};

const BOUND: Duration = Duration::from_secs(1);

/// Waits until the token is refused; every call after the bound must refuse it.
async fn until_refused(server: &TestServer, token: &str, removed: Instant) {
    wait::until(async || {
        let asked = removed.elapsed();
        let judged = server.validate(token).await;
        if judged.outcome() == pb::Outcome::Active {
            assert!(asked < BOUND, "active after {asked:?}");
            return false;
        }
        assert_eq!(judged.inactive_reason(), Why::SignatureInvalid);
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_is_refused_everywhere_within_the_bound_and_another_signs_at_once() {
    let one = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let two = one.replica().await;
    let gateway = Gateway::connect(two.channel(), GatewayOptions::new("sessiond")).await;
    let gateway = gateway.expect("a gateway");
    let (id, token, refresh) = parts(&one.create("ada").await);
    // Verified and cached by all three.
    for server in [&one, &two] {
        wait::until(async || server.validate(&token).await.outcome() == pb::Outcome::Active).await;
    }
    wait::until(async || matches!(gateway.validate(&token), Verdict::Active(_))).await;
    let old = one.signing(Purpose::Access).await.kid;

    let Ok(Retired::Removed(gone, new)) = one.key_work().remove(&old).await.expect("ok") else {
        panic!("it is removed");
    };
    let removed = Instant::now();
    assert_eq!((gone.state, new.state), (KeyState::Gone, KeyState::Signing));
    wait::until(async || {
        let asked = removed.elapsed();
        let active = matches!(gateway.validate(&token), Verdict::Active(_));
        assert!(!active || asked < BOUND, "active after {asked:?}");
        !active
    })
    .await;
    for server in [&one, &two] {
        until_refused(server, &token, removed).await;
    }
    // The session is active: its refresh token was made with another key. Whichever replica signs with the new key
    // first, none refuses its tokens.
    let renewed = one.refresh(&refresh).await.expect("ok");
    assert_eq!(renewed.session.expect("it").session_id, id);
    let token = renewed.tokens.expect("tokens").access_token;
    assert_eq!(header(&token)["kid"], *new.kid);
    for server in [&one, &two] {
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
        assert_eq!(server.published().await, std::slice::from_ref(&new.kid));
    }
    wait::until(async || match gateway.validate(&token) {
        Verdict::Active(_) => true,
        verdict => {
            assert!([Verdict::Ask, Verdict::Stale].contains(&verdict), "{verdict:?}");
            false
        }
    })
    .await;
    let stored = "SELECT octet_length(sealed_private_key)::bigint FROM signing_keys
        WHERE removed_at IS NOT NULL";
    assert_eq!(one.db.count(stored).await, 0, "its private part is destroyed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_refuses_a_removed_key_within_the_bound() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let alone = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    let (_, token, _) = parts(&server.create("ada").await);
    wait::until(async || alone.validate(&token).await.watermark != "w0").await;
    proxy.set(Mode::BlackHole);
    let old = server.signing(Purpose::Access).await.kid;
    server.key_work().remove(&old).await.expect("ok").expect("removed");
    let removed = Instant::now();
    wait::until(async || {
        let asked = removed.elapsed();
        match alone.try_validate(&token).await {
            Ok(judged) => {
                assert_eq!(judged.outcome(), pb::Outcome::Active);
                assert!(asked < BOUND, "active after {asked:?}");
                false
            }
            Err(status) => {
                assert_unavailable(&status);
                true
            }
        }
    })
    .await;
    proxy.set(Mode::Pass);
    wait::until(async || match alone.try_validate(&token).await {
        Ok(judged) => {
            assert_eq!(judged.inactive_reason(), Why::SignatureInvalid);
            true
        }
        Err(status) => {
            assert_unavailable(&status);
            false
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_key_that_only_another_replica_knows_is_good() {
    let one = start().await;
    let two = one.replica().await;
    for _ in 0..10 {
        for purpose in [Purpose::Refresh, Purpose::Access] {
            let old = one.signing(purpose).await.kid;
            one.key_work().remove(&old).await.expect("ok").expect("removed");
        }
        let new = one.signing(Purpose::Access).await.kid;
        one.until_signed_with(&new).await;
        let (_, token, refresh) = parts(&one.create("ada").await);
        assert_eq!(two.validate(&token).await.outcome(), pb::Outcome::Active);
        two.refresh(&refresh).await.expect("a successor");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_removed_mac_key_have_to_log_in_again() {
    let server = start().await;
    let (id, access, refresh) = parts(&server.create("ada").await);
    let old = server.signing(Purpose::Refresh).await.kid;
    server.key_work().remove(&old).await.expect("ok").expect("removed");
    wait::until(async || server.refresh(&refresh).await.is_err()).await;
    assert_eq!(refusal(server.refresh(&refresh).await), "REFRESH_TOKEN_INVALID");
    assert_eq!(server.get(&id).await.expect("it").state(), pb::SessionState::Active);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    let (_, _, refresh) = parts(&server.create("ada").await);
    server.refresh(&refresh).await.expect("those of the new key are good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_key_takes_over_from_a_removed_one_and_one_that_is_removed_never_does() {
    let server = start().await;
    let work = server.key_work();
    let first = server.signing(Purpose::Access).await.kid;
    let week = Length::days(7);
    let standby = work.publish(Purpose::Access, SigningAlgorithm::Es256, week).await.expect("one");
    // In good order only a key that every replica has can take over.
    let early = work.retire(&first).await.expect("ok").expect_err("too early");
    assert!(early.0.contains(&standby.kid) && early.0.contains("--now"), "{}", early.0);
    let Ok(Retired::Removed(_, signs)) = work.remove(&first).await.expect("ok") else {
        panic!("it is removed");
    };
    assert_eq!(signs.kid, standby.kid);
    server.until_signed_with(&standby.kid).await;

    let Ok(Retired::Until(_, next)) = work.retire(&standby.kid).await.expect("ok") else {
        panic!("it signs until another was published for long enough");
    };
    assert_eq!(next.life.since(), server.clock.now() + AHEAD);
    let Ok(Retired::Removed(gone, signs)) = work.retire(&next.kid).await.expect("ok") else {
        panic!("it has signed nothing");
    };
    assert_eq!((gone.kid, signs.kid), (next.kid, standby.kid.clone()));
    server.advance(AHEAD * 2);
    assert_eq!(server.signing(Purpose::Access).await.kid, standby.kid);
    // A key that every replica has takes over in good order.
    let later = work.publish(Purpose::Access, SigningAlgorithm::EdDsa, week).await.expect("one");
    server.advance(AHEAD);
    let Ok(Retired::Replaced(old, new)) = work.retire(&standby.kid).await.expect("ok") else {
        panic!("it is replaced");
    };
    assert_eq!((old.state, new.state), (KeyState::Verifying, KeyState::Signing));
    assert_eq!(new.kid, later.kid);
    for kid in [&first, &standby.kid, "nobody"] {
        work.retire(kid).await.expect("ok").expect_err("there is nothing to do");
    }
    work.remove(&first).await.expect("ok").expect_err("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_algorithm_is_the_keys_whatever_a_token_says() {
    let (server, forge) = start_with_forge().await;
    let (_, own, _) = parts(&server.create("ada").await);
    let claims = claims(&own);
    let mut kids = Vec::new();
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
        let key = server.key_work().publish(Purpose::Access, algorithm, AHEAD).await.expect("one");
        kids.push(key.kid);
    }
    kids.push("by-hand".to_owned());
    wait::until(async || server.published().await.len() == 3).await;
    let good = forge.token(&forge.header(), &claims);
    assert_eq!(server.validate(&good).await.outcome(), pb::Outcome::Active);
    for kid in &kids {
        for alg in ["EdDSA", "ES256", "RS256", "PS256", "ES384", "HS256", "none"] {
            let header = json!({ "typ": "at+jwt", "alg": alg, "kid": kid });
            let own = kid == "by-hand" && alg == "EdDSA";
            let mut tokens = vec![forge.mac_token(&header, &claims)];
            tokens.extend((!own).then(|| forge.token(&header, &claims)));
            for token in tokens {
                let judged = server.validate(&token).await;
                assert_eq!(judged.outcome(), pb::Outcome::Inactive, "{header}");
                let why = judged.inactive_reason();
                // `none` is not a signing algorithm.
                let expected = if alg == "none" { Why::Malformed } else { Why::SignatureInvalid };
                assert_eq!(why, expected, "{header}");
            }
        }
    }
}
