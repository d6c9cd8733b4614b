//! The metrics port: metrics, health and keys.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sessiond::grpc::pb;
use sessiond::token::jwk::SigningAlgorithm;
use sessiond::token::key_life::Purpose;

use crate::harness::calls::parts;
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::scrape::{calls, get, request, scrape, with_port};
use crate::harness::{clock, start_on, start_with, wait};

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_method_and_code_and_made_up_names_together() {
    let server = start_with(with_port).await;
    let before = scrape(&server).await;
    let (id, token, _) = parts(&server.create("ada").await);
    for _ in 0..3 {
        server.validate(&token).await;
    }
    server.get("nonsense").await.expect_err("refused");
    server.get(&id).await.expect("a session");
    for path in ["/sessiond.v1.SessionService/Nothing", "/made/up"] {
        let mut client = tonic::client::Grpc::new(server.channel());
        client.ready().await.expect("a connection");
        let path = path.parse().expect("a path");
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        client.unary(tonic::Request::new(()), path, codec).await.expect_err("no such method");
    }
    let after = scrape(&server).await;
    let grown = |name: &str| after[name] - before[name];
    let service = "sessiond.v1.SessionService";
    for (method, code, count) in [
        (format!("{service}/CreateSession"), "OK", 1.0),
        (format!("{service}/ValidateSession"), "OK", 3.0),
        (format!("{service}/GetSession"), "OK", 1.0),
        (format!("{service}/GetSession"), "INVALID_ARGUMENT", 1.0),
        ("other".to_owned(), "UNIMPLEMENTED", 2.0),
    ] {
        assert_eq!(grown(&calls(&method, code)), count, "{method} {code}");
    }
    let timed = "sessiond_grpc_call_duration_seconds_count";
    assert_eq!(grown(&format!("{timed}{{method=\"{service}/ValidateSession\"}}")), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_hits_misses_and_the_age_of_the_feed() {
    let server = start_with(|settings| {
        with_port(settings);
        // Long enough for a busy machine.
        settings.staleness_bound = Duration::from_secs(60);
    })
    .await;
    let (id, token, _) = parts(&server.create("ada").await);
    // The server follows the revocation feed, and has cached the session again since its start.
    wait::until(async || server.validate(&token).await.watermark != "w0").await;
    server.validate_now(&token).await;
    let before = scrape(&server).await;
    for _ in 0..10 {
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    }
    server.validate_now(&token).await;
    server.terminate(&id).await.expect("ok");
    // Its own revocations arrive through the feed too, and invalidate once more.
    wait::until(async || {
        let received = scrape(&server).await["sessiond_revocations_received_total"];
        received > before["sessiond_revocations_received_total"]
    })
    .await;
    server.validate(&token).await;
    // The ended session is cached too.
    server.validate(&token).await;
    let after = scrape(&server).await;
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(grown("sessiond_session_cache_hits_total"), 11.0);
    assert_eq!(grown("sessiond_session_cache_misses_total{reason=\"strong\"}"), 1.0);
    assert_eq!(grown("sessiond_session_cache_misses_total{reason=\"cold\"}"), 1.0);
    let age = after["sessiond_revocation_feed_age_seconds"];
    assert!((0.0..20.0).contains(&age), "{age}");
    assert_eq!(after["sessiond_session_cache_entries"], 1.0);
    assert!(after["sessiond_session_cache_bytes"] > 100.0);
    assert!(after["sessiond_database_connections"] >= 1.0);
    assert_eq!(after["sessiond_clock_ahead_of_machine_seconds"], 0.0, "a clock moved by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_while_the_database_answers_and_healthy_as_long_as_it_lives() {
    let (postgres, _dir) = own_cluster().await;
    let server = start_on(Db::of(&postgres), clock(), with_port).await;
    wait::until(async || get(&server, "/readyz").await.0 == 200).await;
    tokio::task::block_in_place(|| postgres.halt());
    wait::until(async || get(&server, "/readyz").await.0 == 503).await;
    assert_eq!(get(&server, "/healthz").await.0, 200);
    server.validate("nonsense").await;
    tokio::task::block_in_place(|| postgres.resume().expect("it comes up"));
    wait::until(async || get(&server, "/readyz").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_are_those_of_the_rpc_and_may_be_kept() {
    let server = start_with(with_port).await;
    let request_of_keys = pb::GetJsonWebKeySetRequest {};
    let set = server.sessions().get_json_web_key_set(request_of_keys).await.expect("keys");
    let (status, head, body) = get(&server, "/.well-known/jwks.json").await;
    assert_eq!((status, body), (200, set.into_inner().jwks_json));
    assert!(head.contains("content-type: application/jwk-set+json"), "{head}");
    assert!(head.contains("cache-control: public, max-age=300"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an etag");
    // Entity tags are compared case-sensitively.
    let (_, head, _) = get(&server, "/.well-known/jwks.json").await;
    assert!(head.contains(etag));
    for (asked, expected) in [
        ("GET /nothing HTTP/1.1", 404),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0", 405),
        ("DELETE /.well-known/jwks.json HTTP/1.1", 405),
    ] {
        assert_eq!(request(server.http.expect("a port"), asked).await.0, expected, "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_changes_its_etag_with_the_keys_and_is_unavailable_when_they_are_not_cached() {
    let (postgres, _dir) = own_cluster().await;
    let server = start_on(Db::of(&postgres), clock(), with_port).await;
    let etag = |head: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix("etag: "));
        line.expect("an etag").to_owned()
    };
    // `request` returns the head in lower case, but entity tags are not.
    let tag = |body: &str| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
        format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]))
    };
    let asking = async |tag: &str| {
        let head = format!("GET /.well-known/jwks.json HTTP/1.1\r\nIf-None-Match: {tag}");
        request(server.http.expect("a port"), &head).await
    };
    let (_, head, body) = get(&server, "/.well-known/jwks.json").await;
    let (before, written) = (etag(&head), tag(&body));
    assert_eq!(before, written.to_lowercase());
    for known in
        [written.clone(), format!("W/{written}"), format!("\"a\", {written}"), "*".to_owned()]
    {
        let (status, head, body) = asking(&known).await;
        assert_eq!((status, etag(&head), body.as_str()), (304, before.clone(), ""), "{known}");
    }
    let rotated = server.key_work().rotate(Purpose::Access, Some(SigningAlgorithm::Rs256)).await;
    let new = rotated.expect("ok").expect("a successor");
    wait::until(async || asking(&written).await.0 == 200).await;
    let (_, head, body) = asking(&written).await;
    assert_ne!(etag(&head), before);
    assert!(body.contains(&new.kid) && body.contains("\"kty\":\"RSA\""), "{body}");
    tokio::task::block_in_place(|| postgres.halt());
    wait::until(async || {
        let (status, head, _) = get(&server, "/.well-known/jwks.json").await;
        assert!(status == 200 || head.contains("retry-after: 1"), "{head}");
        status == 503
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_in_the_documentation() {
    let server = start_with(with_port).await;
    server.create("ada").await;
    let (.., page) = get(&server, "/metrics").await;
    let names: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("sessiond_"))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let documented = include_str!("../../docs/METRICS.md");
    let missing: Vec<_> =
        names.iter().filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/METRICS.md lacks {missing:?}");
}
