//! A gateway that validates tokens itself with the library's client: without a call, and within the same bound.

use std::time::{Duration, Instant};

use sessiond::clock::Clock;
use sessiond::gateway::{Gateway, GatewayOptions, Mode, Verdict};
use sessiond::grpc::pb;
use sessiond::model::token::InactiveReason;
use sessiond::server::Settings;
use tonic::transport::Channel;

use crate::harness::calls::{new_session, parts, successor};
use crate::harness::cluster::Db;
use crate::harness::stepping::second_factor;
use crate::harness::{TestServer, start_on, wait};

const BOUND: Duration = Duration::from_secs(1);

/// On the real clock, which the gateway uses.
async fn server(change: impl FnOnce(&mut Settings)) -> TestServer {
    start_on(Db::fresh().await, Clock::system(), change).await
}

async fn channel(server: &TestServer) -> Channel {
    let address = format!("http://{}", server.addr);
    Channel::from_shared(address).expect("an address").connect().await.expect("a connection")
}

async fn gateway(server: &TestServer, mode: Mode) -> Gateway {
    let options = GatewayOptions { mode, ..GatewayOptions::new("sessiond") };
    Gateway::connect(channel(server).await, options).await.expect("a gateway")
}

fn is_active(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Active(_))
}

/// Waits for another verdict than `Active`, which must come within the bound.
async fn until_withdrawn(gateway: &Gateway, token: &str) {
    let ended = Instant::now();
    wait::until(async || {
        let asked = Instant::now();
        let verdict = gateway.validate(token);
        if is_active(&verdict) {
            assert!(asked.duration_since(ended) < BOUND);
            return false;
        }
        // On a busy machine the revocation may be late; meanwhile the verdict must not be `Active`.
        verdict == Verdict::Ask
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_revoked_is_refused_within_the_bound() {
    let server = server(|_| {}).await;
    let gateway = gateway(&server, Mode::Strict).await;
    let (ended, token, _) = parts(&server.create("ada").await);
    let Verdict::Active(claims) = gateway.validate(&token) else { panic!("a good token") };
    assert_eq!((claims.key.user.as_str(), claims.key.session.to_string()), ("ada", ended.clone()));
    server.terminate(&ended).await.expect("ok");
    until_withdrawn(&gateway, &token).await;
    // The stream does not contain revocations of other tenants.
    let elsewhere = pb::CreateSessionRequest { tenant_id: "acme".to_owned(), ..new_session("ada") };
    let (_, foreign, _) = parts(&server.try_create(elsewhere).await.expect("a session"));
    assert_eq!(gateway.validate(&foreign), Verdict::Ask);

    let (stepped, token, _) = parts(&server.create("ada").await);
    assert!(is_active(&gateway.validate(&token)));
    let answer = server.reauthenticate(second_factor(&stepped)).await.expect("a step up");
    until_withdrawn(&gateway, &token).await;
    let newer = answer.tokens.expect("tokens").access_token;
    assert!(is_active(&gateway.validate(&newer)), "that of the step up is good");

    let created = server.create("bob").await;
    let (_, token, _) = parts(&created);
    assert!(is_active(&gateway.validate(&token)));
    let device_id = created.session.expect("a session").device.expect("a device").device_id;
    let request =
        pb::RevokeDeviceRequest { user_id: "bob".to_owned(), device_id, ..Default::default() };
    server.sessions().revoke_device(request).await.expect("ok");
    until_withdrawn(&gateway, &token).await;

    let (_, token, _) = parts(&server.create("carol").await);
    assert!(is_active(&gateway.validate(&token)));
    server.erase("carol").await.expect("an erasure");
    until_withdrawn(&gateway, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_service_a_gateway_validates_for_the_bound_or_as_its_mode_says() {
    let server = server(|_| {}).await;
    let strict = gateway(&server, Mode::Strict).await;
    let lenient = gateway(&server, Mode::BestEffort).await;
    let (id, _, refresh) = parts(&server.create("ada").await);
    let token = successor(server.refresh(&refresh).await).access_token;
    let (db, clock) = server.stop().await;
    let gone = Instant::now();
    let mut accepted = 0_u32;
    while is_active(&strict.validate(&token)) {
        accepted += 1;
        assert!(gone.elapsed() < BOUND);
        tokio::task::yield_now().await;
    }
    assert!(accepted > 100, "{accepted}");
    assert_eq!(strict.validate(&token), Verdict::Stale);
    assert!(strict.age().expect("something is known") > BOUND);
    assert!(is_active(&lenient.validate(&token)));
    drop((strict, lenient));

    // Revocations from while it was cut off arrive after it reconnects.
    let back = start_on(db, clock, |_| {}).await;
    let gateway = gateway(&back, Mode::Strict).await;
    assert!(is_active(&gateway.validate(&token)));
    back.terminate(&id).await.expect("ok");
    until_withdrawn(&gateway, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reconnects_to_a_restarted_service() {
    let first = server(|_| {}).await;
    let addr = first.addr;
    let gateway = gateway(&first, Mode::Strict).await;
    let (id, token, _) = parts(&first.create("ada").await);
    let (_, other, _) = parts(&first.create("ada").await);
    assert!(is_active(&gateway.validate(&token)));
    let (db, clock) = first.stop().await;
    let second = start_on(db, clock, |settings| settings.listen = addr).await;
    second.terminate(&id).await.expect("ok");
    // Revoked while the gateway was cut off.
    until_withdrawn(&gateway, &token).await;
    wait::until(async || is_active(&gateway.validate(&other))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_gives_the_inactive_reason_of_the_service() {
    let server = server(|_| {}).await;
    let options =
        GatewayOptions { audience: Some("api".to_owned()), ..GatewayOptions::new("sessiond") };
    let for_api = Gateway::connect(channel(&server).await, options).await.expect("a gateway");
    let other = Gateway::connect(channel(&server).await, GatewayOptions::new("other")).await;
    let other = other.expect("a gateway");
    let gateway = gateway(&server, Mode::Strict).await;
    let (_, token, _) = parts(&server.create("ada").await);
    let inactive = |reason| Verdict::Inactive(reason);
    assert_eq!(for_api.validate(&token), inactive(InactiveReason::WrongAudience));
    assert_eq!(other.validate(&token), inactive(InactiveReason::WrongIssuer));
    assert_eq!(gateway.validate("nonsense"), inactive(InactiveReason::Malformed));
    let (head, _) = token.rsplit_once('.').expect("a JWT");
    let forged = format!("{head}.{}", "A".repeat(86));
    assert_eq!(gateway.validate(&forged), inactive(InactiveReason::SignatureInvalid));
    assert_eq!(gateway.validate(&"x".repeat(8193)), inactive(InactiveReason::Malformed));
    // A token with an unknown key yields `Ask` until the keys are fetched, and is then invalid.
    let (_, foreign, _) = parts(&self::server(|_| {}).await.create("ada").await);
    wait::until(async || {
        let verdict = gateway.validate(&foreign);
        assert!([Verdict::Ask, inactive(InactiveReason::SignatureInvalid)].contains(&verdict));
        verdict != Verdict::Ask
    })
    .await;
    assert!(is_active(&gateway.validate(&token)));
}
