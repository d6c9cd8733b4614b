//! API keys: their limits, when replicas accept them, and that their secrets are stored nowhere.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use sessiond::caller::manage::{ApiKeyState, Grant, LIVE_KEYS, NewKey};
use sessiond::caller::permissions::Role;
use sessiond::server::Settings;
use tonic::Code;

use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::{assert_unavailable, reason};
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{TestServer, clock, start, start_on, start_with, wait};
use crate::secrets::dump;

const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for a machine that runs other tests.
const BOUND: Duration = Duration::from_secs(3);
const KEYS: &str = "sessiond.v1.SessionService/GetJsonWebKeySet";
/// Kills the connections of the revocation feeds.
const KILL_FEEDS: &str =
    "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (query LIKE 'SELECT now.snapshot%' OR query LIKE 'LISTEN%')";

fn bounded(settings: &mut Settings) {
    authenticated(settings);
    settings.staleness_bound = BOUND;
}

/// Whether a key is accepted; `None` = the server is unavailable.
async fn is_good(server: &TestServer, key: &str) -> Option<bool> {
    match server.call(KEYS, Vec::new(), Some(key)).await {
        Ok(_) => Some(true),
        Err(status) if status.code() == Code::Unauthenticated => Some(false),
        Err(status) => {
            assert_unavailable(&status);
            None
        }
    }
}

/// Calls until some time after the bound. Every call that began after the bound must give `expected`; returns how many
/// there were.
async fn hold(server: &TestServer, key: &str, since: Instant, expected: bool) -> usize {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut late = 0;
    while since.elapsed() < BOUND + Duration::from_millis(500) {
        ticks.tick().await;
        let asked = since.elapsed();
        let answer = is_good(server, key).await;
        if asked >= BOUND {
            late += usize::from(answer.is_some());
            assert_ne!(answer, Some(!expected), "after {asked:?}");
        }
    }
    late
}

/// The same with several servers at once, all of which must be available.
async fn hold_all(servers: [&TestServer; 2], key: &str, expected: bool) {
    let since = Instant::now();
    let late = join_all(servers.map(|server| hold(server, key, since, expected))).await;
    assert!(late.iter().all(|answers| *answers > 0), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_has_two_live_keys_and_no_third_also_if_many_are_made_at_once() {
    let server = start().await;
    let edge = grant(Role::Gateway, &["default"]);
    server.manage().set_principal("edge", &edge).await.expect("a principal");
    let manage = server.manage();
    let made: Vec<_> = join_all((0..8).map(|_| manage.create_key("edge", DAY, None))).await;
    let (keys, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(keys.len(), LIVE_KEYS);
    let keys: Vec<NewKey> = keys.into_iter().flatten().collect();
    for error in refused.into_iter().filter_map(Result::err) {
        let text = format!("{error:#}");
        assert!(text.contains("2 live keys") && text.contains(&keys[0].id), "{text}");
    }
    assert_eq!(server.db.count("SELECT count(*) FROM api_keys").await, 2);
    // A revoked key makes room, and so does an expired one.
    manage.revoke_key(&keys[0].id).await.expect("a key to revoke");
    let third = manage.create_key("edge", Duration::from_secs(60), None).await.expect("room");
    assert!(manage.create_key("edge", DAY, None).await.is_err());
    server.advance(chrono::Duration::minutes(1));
    manage.create_key("edge", DAY, None).await.expect("room");
    let listed = manage.keys().await.expect("a list");
    let state = |id: &str| listed.iter().find(|(key, _)| key.key_id == id).map(|(_, state)| *state);
    assert_eq!(state(&keys[0].id), Some(ApiKeyState::Revoked));
    assert_eq!(state(&third.id), Some(ApiKeyState::Expired));
    assert_eq!(state(&keys[1].id), Some(ApiKeyState::Live));
    // Keys that ended long ago are deleted.
    server.advance(chrono::Duration::days(100));
    manage.create_key("edge", DAY, None).await.expect("room");
    assert_eq!(manage.keys().await.expect("a list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_refused_in_words_and_nothing_is_written() {
    let server = start().await;
    let manage = server.manage();
    let good = grant(Role::Gateway, &["default"]);
    let long = "a".repeat(257);
    for name in ["", "a b", "a\"b", "a\\b", "ü", "a\n", &long, "anonymous", "system"] {
        assert!(manage.set_principal(name, &good).await.is_err(), "{name:?}");
    }
    let text = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let many: Vec<String> = (0..101).map(|number| format!("t{number}")).collect();
    for (wrong, said) in [
        (Grant { roles: Vec::new(), ..good.clone() }, "--role or --scope"),
        (Grant { tenants: Vec::new(), ..good.clone() }, "--tenant"),
        (Grant { tenants: many, ..good.clone() }, "1 to 100"),
        (Grant { tenants: text(&["a b"]), ..good.clone() }, "--tenant \"a b\""),
        (Grant { tenants: text(&[""]), ..good.clone() }, "--tenant"),
        (Grant { tenants: text(&["a", "*"]), ..good.clone() }, "alone"),
        (Grant { tenants: text(&["a", "a"]), ..good.clone() }, "twice"),
        (Grant { audiences: text(&["a b"]), ..good.clone() }, "--audience"),
        (Grant { roles: vec![Role::Admin, Role::Admin], ..good.clone() }, "twice"),
    ] {
        let error = manage.set_principal("edge", &wrong).await.expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(manage.create_key("edge", DAY, None).await.is_err(), "there is no such principal");
    assert!(manage.revoke_key("0123456789abcdef").await.is_err());
    assert!(manage.remove_principal("edge").await.is_err());
    let rows = "SELECT (SELECT count(*) FROM principals)
        + (SELECT count(*) FROM revocations WHERE level = 6)";
    assert_eq!(server.db.count(rows).await, 0);
    manage.create_key("edge", DAY, Some(&good)).await.expect("a key");
    let error = manage.create_key("edge", DAY, Some(&good)).await.err().expect("a refusal");
    assert!(error.to_string().contains("exists already"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_nowhere_in_the_database_and_its_hash_opens_nothing() {
    let server = start_with(authenticated).await;
    let key = server.key("edge", &grant(Role::Gateway, &["default"])).await;
    assert_eq!(is_good(&server, &key.text).await, Some(true));
    let rows = dump(&server.db).await;
    assert!(rows.iter().any(|row| row.contains(&key.id)), "the dump has the key's id");
    let secret = &key.text[21..];
    let bytes = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(secret).expect("base64url")
    };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    for needle in [secret, &hex] {
        assert!(!rows.iter().any(|row| row.contains(needle)), "a secret is stored");
    }
    let client = server.db.connect().await;
    let hash = client.query_one("SELECT secret_sha256 FROM api_keys", &[]).await.expect("a row");
    let hash: Vec<u8> = hash.get(0);
    let encoded = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)
    };
    assert_eq!(is_good(&server, &format!("ssk_{}_{encoded}", key.id)).await, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_and_a_revoked_one_count_everywhere_within_the_bound() {
    let server = start_with(bounded).await;
    let replica = server.replica_with(bounded).await;
    let edge = grant(Role::Gateway, &["default"]);
    let one = server.key("edge", &edge).await;
    // Cached everywhere, so that the caches must be invalidated.
    for server in [&server, &replica] {
        wait::until(async || is_good(server, &one.text).await == Some(true)).await;
    }
    let manage = server.manage();
    for round in 0..2 {
        let made = manage.create_key("edge", DAY, None).await.expect("a key");
        hold_all([&server, &replica], &made.text, true).await;
        manage.revoke_key(&made.id).await.expect("a key to revoke");
        hold_all([&server, &replica], &made.text, false).await;
        assert_eq!(is_good(&replica, &one.text).await, Some(true), "round {round}: the other one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_holds_while_the_feed_is_cut_off_or_silent() {
    let server = start_with(bounded).await;
    let proxy = Proxy::before(&server.db.url);
    let replica = server.replica_with(|settings| {
        bounded(settings);
        settings.database_url = proxy.url.clone();
    });
    let replica = replica.await;
    let edge = grant(Role::Gateway, &["default"]);
    let manage = server.manage();
    manage.set_principal("edge", &edge).await.expect("a principal");
    let meddler = server.db.connect().await;
    for mode in [Mode::Pass, Mode::BlackHole] {
        let key = manage.create_key("edge", DAY, None).await.expect("a key");
        for server in [&server, &replica] {
            wait::until(async || is_good(server, &key.text).await == Some(true)).await;
        }
        proxy.set(mode);
        manage.revoke_key(&key.id).await.expect("a key to revoke");
        let since = Instant::now();
        let killing = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while since.elapsed() < BOUND {
                ticks.tick().await;
                meddler.query_one(KILL_FEEDS, &[]).await.expect("a query");
            }
        };
        let held =
            join(hold(&server, &key.text, since, false), hold(&replica, &key.text, since, false));
        let (_, (answers, answers_behind_proxy)) = join(killing, held).await;
        // Cut off from the database, the server must be unavailable, and not use an outdated directory.
        assert!(answers > 0 && (answers_behind_proxy > 0) == (mode == Mode::Pass), "{mode:?}");
        proxy.set(Mode::Pass);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_unavailable_and_no_refusal_and_unknown_keys_cost_no_database() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let server = start_on(db, clock(), authenticated).await;
    let key = server.key("edge", &grant(Role::Gateway, &["default"])).await.text;
    wait::until(async || is_good(&server, &key).await == Some(true)).await;
    tokio::task::block_in_place(|| postgres.halt());
    // Nor can it tell that an unknown key does not exist.
    let unknown = format!("ssk_0123456789abcdef_{}", &key[21..]);
    wait::until(async || is_good(&server, &unknown).await.is_none()).await;
    assert_eq!(is_good(&server, &key).await, None);
    // A call without credentials needs no directory; and many waiting calls share one read.
    let refused = server.call(KEYS, Vec::new(), None).await.expect_err("no");
    assert_eq!(reason(&refused), "CALLER_UNAUTHENTICATED");
    let begun = Instant::now();
    join_all((0..50).map(|_| is_good(&server, &key))).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    tokio::task::block_in_place(|| postgres.resume().expect("it comes up"));
    wait::until(async || is_good(&server, &key).await == Some(true)).await;
    assert_eq!(is_good(&server, &unknown).await, Some(false));
}
