//! The other fields of a create, at both edges of every limit: a value within is returned unchanged, a value beyond is
//! refused with the name of its field.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use sessiond::grpc::pb;

use crate::harness::calls::{assert_fits, parts, reason, violations};
use crate::harness::creates::{UNPRINTABLE, assert_refused, create, kept, text};
use crate::harness::requests::{NOBODY, length, stamp};
use crate::harness::start;

fn authentication(change: impl FnOnce(&mut pb::Authentication)) -> pb::CreateSessionRequest {
    let mut authentication = pb::Authentication::default();
    change(&mut authentication);
    create(|request| request.authentication = Some(authentication))
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_have_1_to_128_characters_and_tenants_1_to_64() {
    let server = start().await;
    for length in [1, 128] {
        let session = kept(&server, create(|r| r.user_id = text(length))).await;
        assert_eq!(session.user_id, text(length));
        let session = kept(&server, create(|r| r.client_id = text(length))).await;
        assert_eq!(session.client_id, text(length));
    }
    for length in [0, 129, 5_000] {
        assert_refused(&server, create(|r| r.user_id = text(length)), "user_id").await;
        assert_refused(&server, create(|r| r.client_id = text(length)), "client_id").await;
    }
    for odd in UNPRINTABLE {
        assert_refused(&server, create(|r| r.user_id = odd.to_owned()), "user_id").await;
        assert_refused(&server, create(|r| r.client_id = odd.to_owned()), "client_id").await;
    }
    for tenant in ["a".repeat(64), "A".to_owned(), "a.B_c-9".to_owned()] {
        let session = kept(&server, create(|r| r.tenant_id = tenant.clone())).await;
        assert_eq!(session.tenant_id, tenant);
    }
    assert_eq!(kept(&server, create(|_| {})).await.tenant_id, "default");
    for tenant in ["a".repeat(65), "ü".to_owned(), "a b".to_owned(), "a/b".to_owned(), "\0".into()]
    {
        assert_refused(&server, create(|r| r.tenant_id = tenant), "tenant_id").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_is_kept_within_its_limits() {
    let server = start().await;
    let visible: String =
        ('!'..='~').filter(|c| !matches!(c, '"' | '\\')).cycle().take(128).collect();
    let methods: Vec<String> = (0..16).map(|i| format!("{i:064}")).collect();
    let request = authentication(|a| (a.acr, a.amr) = (visible.clone(), methods.clone()));
    let session = kept(&server, request).await.authentication.expect("an authentication");
    assert_eq!((&session.acr, &session.amr), (&visible, &methods));
    assert_eq!(session.auth_time, stamp(server.clock.now()));
    let none = kept(&server, create(|_| {})).await.authentication.expect("an authentication");
    assert_eq!((none.acr.as_str(), none.amr.len(), none.auth_time), ("", 0, session.auth_time));

    let odd = ["a b", "a\"b", "a\\b", "ü", "\0", "a\n"].map(str::to_owned);
    for bad in odd.iter().cloned().chain([visible + "a"]) {
        assert_refused(&server, authentication(|a| a.acr = bad), "authentication.acr").await;
    }
    for bad in odd.into_iter().chain([String::new(), "a".repeat(65)]) {
        let request = authentication(|a| a.amr = vec!["pwd".to_owned(), bad]);
        assert_refused(&server, request, "authentication.amr[1]").await;
    }
    let request = authentication(|a| a.amr = vec!["pwd".to_owned(); 17]);
    assert_refused(&server, request, "authentication.amr").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_may_lie_five_seconds_ahead_and_no_more() {
    let server = start().await;
    let now = server.clock.now();
    let first = DateTime::from_timestamp(-62_135_596_800, 0).expect("year 1");
    for good in [first, DateTime::UNIX_EPOCH, now, now + Duration::seconds(5)] {
        let session = kept(&server, authentication(|a| a.auth_time = stamp(good))).await;
        assert_eq!(session.authentication.expect("one").auth_time, stamp(good));
    }
    let late = stamp(now + Duration::seconds(5) + Duration::microseconds(1)).expect("a time");
    let broken = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
    for bad in [
        late,
        broken(253_402_300_799, 0),
        broken(253_402_300_800, 0),
        broken(-62_135_596_801, 0),
        broken(0, -1),
        broken(0, 1_000_000_000),
        broken(i64::MAX, i32::MAX),
        broken(i64::MIN, i32::MIN),
    ] {
        let request = authentication(|a| a.auth_time = Some(bad));
        assert_refused(&server, request, "authentication.auth_time").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_are_kept_within_their_limits() {
    let server = start().await;
    let most: Vec<String> = (0..16).map(|i| format!("{i:0128}")).collect();
    for good in [most.clone(), vec!["a".repeat(256)], vec!["a".to_owned(), "a".to_owned()]] {
        let session = kept(&server, create(|r| r.audiences = good.clone())).await;
        assert_eq!(session.audiences, good);
    }
    assert_eq!(kept(&server, create(|_| {})).await.audiences, ["sessiond"]);
    let mut longer = most;
    longer[3].push('a');
    for bad in [longer, vec!["a".to_owned(); 17]] {
        assert_refused(&server, create(|r| r.audiences = bad), "audiences").await;
    }
    for bad in ["", "a b", "a\"b", "a\\b", "ü", "\0", &"a".repeat(257)] {
        let request = create(|r| r.audiences = vec!["a".to_owned(), bad.to_owned()]);
        assert_refused(&server, request, "audiences[1]").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_kept_within_its_limits() {
    let server = start().await;
    let entries = |count: usize| (0..count).map(|i| (i.to_string(), text(i))).collect();
    let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    // 8 times 64 + 448 bytes.
    let full: BTreeMap<String, String> =
        (0..8).map(|i| (format!("{i:064}"), "ü".repeat(224))).collect();
    let goods =
        [entries(32), full.clone(), one("a", &text(512)), one("aA0._-", ""), one(".", "😀")];
    for good in goods {
        let session = kept(&server, create(|r| r.metadata = good.clone())).await;
        assert_eq!(session.metadata, good);
    }
    let mut longer = full;
    longer.values_mut().next().expect("an entry").push('a');
    let bads = [
        entries(33),
        longer,
        one("", "a"),
        one(&"a".repeat(65), "a"),
        one("a b", "a"),
        one("ü", "a"),
        one("a\0", "a"),
    ];
    for bad in bads {
        assert_refused(&server, create(|r| r.metadata = bad), "metadata").await;
    }
    for bad in UNPRINTABLE.into_iter().map(str::to_owned).chain([text(513)]) {
        let request = create(|r| r.metadata = one("a.b", &bad));
        assert_refused(&server, request, "metadata[a.b]").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_go_from_one_second_to_the_policys() {
    let server = start().await;
    let instant = Duration::microseconds(1);
    let second = Duration::seconds(1);
    let now = server.clock.now();
    for idle in [second, second + instant, Duration::hours(1)] {
        let session = kept(&server, create(|r| r.idle_timeout = length(idle))).await;
        assert_eq!(session.idle_expire_time, stamp(now + idle));
        assert_eq!(session.absolute_expire_time, stamp(now + Duration::hours(24)));
    }
    for absolute in [second, Duration::minutes(59), Duration::hours(24)] {
        let session = kept(&server, create(|r| r.absolute_timeout = length(absolute))).await;
        assert_eq!(session.absolute_expire_time, stamp(now + absolute));
        assert_eq!(session.idle_expire_time, stamp(now + absolute.min(Duration::hours(1))));
    }
    for bad in [Duration::zero(), second - instant, Duration::hours(1) + instant, -second] {
        assert_refused(&server, create(|r| r.idle_timeout = length(bad)), "idle_timeout").await;
    }
    for bad in [Duration::zero(), second - instant, Duration::hours(24) + instant, -second] {
        let request = create(|r| r.absolute_timeout = length(bad));
        assert_refused(&server, request, "absolute_timeout").await;
    }
    let malformed = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    for bad in [
        malformed(1, -1),
        malformed(60, i32::MAX),
        malformed(60, 1_000_000_000),
        malformed(i64::MAX, 0),
        malformed(i64::MIN, i32::MIN),
        malformed(315_576_000_001, 0),
    ] {
        assert_refused(&server, create(|r| r.idle_timeout = bad), "idle_timeout").await;
        assert_refused(&server, create(|r| r.absolute_timeout = bad), "absolute_timeout").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_timeout_longer_than_the_absolute_one_is_refused_naming_the_maximum() {
    let server = start().await;
    let of = |idle, absolute| {
        create(|r| {
            (r.idle_timeout, r.absolute_timeout) = (length(idle), length(absolute));
        })
    };
    let half = Duration::minutes(30);
    kept(&server, of(half, half)).await;
    let request = of(half + Duration::microseconds(1), half);
    let refusal = server.try_create(request).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["idle_timeout"]);
    assert!(refusal.message().contains("1800s"), "{}", refusal.message());
    let request = of(Duration::hours(2), Duration::hours(25));
    let refusal = server.try_create(request).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["absolute_timeout", "idle_timeout"]);
    assert!(refusal.message().contains("86400s"), "{}", refusal.message());
    assert!(refusal.message().contains("3600s"), "{}", refusal.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_a_uuid() {
    let server = start().await;
    kept(&server, create(|r| r.request_id = NOBODY.to_owned())).await;
    for bad in ["x", "00000000-0000-7000-8000-00000000000", " ", "\0"] {
        assert_refused(&server, create(|r| r.request_id = bad.to_owned()), "request_id").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_session_has_tokens_within_their_limits() {
    let server = start().await;
    let longest = Value { kind: Some(Kind::StringValue("c".repeat(2048 - r#"{"k":""}"#.len()))) };
    let fullest = Struct { fields: [("k".to_owned(), longest)].into() };
    let request = pb::CreateSessionRequest {
        tenant_id: "t".repeat(64),
        user_id: "😀".repeat(128),
        client_id: "😀".repeat(128),
        audiences: (0..16).map(|i| format!("{i:0128}")).collect(),
        scope: "s".repeat(1024),
        claims: Some(fullest),
        ..authentication(|a| {
            (a.acr, a.amr) = ("a".repeat(128), (0..16).map(|i| format!("{i:064}")).collect());
        })
    };
    let (_, access, refresh) = parts(&server.try_create(request).await.expect("a session"));
    assert!(access.len() <= 12_288, "{}", access.len());
    assert!(refresh.len() <= 2048, "{}", refresh.len());
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    server.refresh(&refresh).await.expect("a successor");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worst_request_still_gets_an_answer_that_fits_into_headers() {
    let server = start().await;
    let long = || "x".repeat(180);
    let metadata = (0..40).map(|i| (format!("{i:064}"), long())).collect();
    let keys: BTreeMap<String, String> =
        (0..40).map(|i| (format!("{i}{}", "k".repeat(180)), long())).collect();
    for metadata in [metadata, keys] {
        let authentication =
            pb::Authentication { acr: long(), amr: vec![long(); 40], auth_time: None };
        let client = pb::ClientContext {
            ip_address: long(),
            user_agent: long(),
            location: Some(pb::Location {
                country_code: long(),
                region: long(),
                city: long(),
                ..Default::default()
            }),
            device: Some(pb::DeviceContext {
                display_name: long(),
                platform: long(),
                app_version: long(),
                ..Default::default()
            }),
        };
        let request = pb::CreateSessionRequest {
            tenant_id: long(),
            user_id: long(),
            client_id: long(),
            client: Some(client),
            authentication: Some(authentication),
            audiences: vec![long(); 40],
            metadata,
            request_id: long(),
            scope: long(),
            conflict_token: "t".to_owned(),
            terminate_session_ids: vec!["x".to_owned(); 85],
            ..Default::default()
        };
        let refusal = server.try_create(request).await.expect_err("a refusal");
        assert_eq!(reason(&refusal), "INVALID_FIELD");
        assert_fits(&refusal);
        let named = violations(&refusal);
        assert!(named.len() > 15, "{named:?}");
        assert_eq!(named.last().map(String::as_str), Some(""), "how many more there are");
    }
}
