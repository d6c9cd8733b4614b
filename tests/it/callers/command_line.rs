//! `sessiond principal` and `sessiond api-key`, beside a running server and without one.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sessiond::gateway::{ApiKey, Gateway, GatewayOptions, Verdict};
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::MASTER_KEY;
use crate::harness::callers::{As, Credentials};
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::process::{Ended, Place};
use crate::harness::wait;

/// Runs a command, which must succeed; returns its output.
async fn run(place: &Place, flags: &[&str], env: &[(&str, &str)]) -> String {
    let ended: Ended = place.spawn(flags, env).ended().await;
    assert!(ended.status.success(), "{flags:?}: {}", ended.err);
    ended.out
}

fn client(channel: &Channel, key: &str) -> SessionServiceClient<As> {
    SessionServiceClient::with_interceptor(channel.clone(), Credentials::of(Some(key)))
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_used_listed_and_revoked_while_the_server_runs() {
    let place = Place::new();
    let mut server = place.spawn(&["--callers", "authenticated"], &[]);
    let addr = format!("http://{}", server.addr().await);
    let channel =
        Channel::from_shared(addr).expect("an address").connect().await.expect("it accepts");
    let set = ["principal", "set", "login", "--role", "login", "--tenant", "default"];
    assert!(run(&place, &set, &[]).await.contains("login is set"));
    let create = ["api-key", "create", "login", "--expires-in", "90d"];
    let login = run(&place, &create, &[]).await;
    let login = login.trim_end();
    let create =
        ["api-key", "create", "edge", "--expires-in", "1h", "--role", "gateway", "--tenant", "*"];
    let edge = run(&place, &create, &[]).await;
    let edge = edge.trim_end();
    assert!(login.starts_with("ssk_") && login.len() == 64, "one line with the key");
    let mut access = String::new();
    wait::until(async || {
        match client(&channel, login).create_session(new_session("ada")).await {
            Ok(created) => access = parts(created.get_ref()).1,
            Err(status) => assert_eq!(status.code(), Code::Unauthenticated, "{status:?}"),
        }
        !access.is_empty()
    })
    .await;
    // The gateway library uses a key too; without one the server refuses it.
    let options = || GatewayOptions::new("sessiond");
    let refused = Gateway::connect(channel.clone(), options()).await.err().expect("a refusal");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let with_key = GatewayOptions { api_key: Some(ApiKey::new(edge)), ..options() };
    let gateway = Gateway::connect(channel.clone(), with_key).await.expect("keys and revocations");
    assert!(matches!(gateway.validate(&access), Verdict::Active(_)));

    let listed = run(&place, &["api-key", "list"], &[]).await;
    let line = listed.lines().find(|line| line.contains("login")).expect("a line for the key");
    let id = line.split('\t').next().expect("an id").to_owned();
    assert!(login.contains(&id) && line.ends_with("live"), "{line}");
    for key in [login, edge] {
        assert!(!listed.contains(&key[21..]), "the list holds a secret");
    }
    let principals = run(&place, &["principal", "list"], &[]).await;
    assert!(principals.contains("edge\tgateway\t-\t*\t-\t"), "{principals}");

    run(&place, &["api-key", "revoke", &id], &[]).await;
    let since = Instant::now();
    wait::until(async || {
        let refused = client(&channel, login).create_session(new_session("bob")).await.err();
        refused.is_some_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    let listed = run(&place, &["api-key", "list"], &[]).await;
    assert!(listed.lines().any(|line| line.starts_with(&id) && line.ends_with("revoked")));
    run(&place, &["principal", "remove", "edge"], &[]).await;
    let question = pb::ValidateSessionRequest { access_token: access, ..Default::default() };
    wait::until(async || {
        let refused = client(&channel, edge).validate_session(question.clone()).await.err();
        refused.is_some_and(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    drop(gateway);
    server.signal(Signal::TERM);
    let ended = server.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    for key in [login, edge] {
        assert!(
            !ended.err.contains(&key[21..]) && !ended.out.contains(&key[21..]),
            "it logged a key"
        );
    }
    // Without a server the same commands start the database themselves.
    assert!(run(&place, &["principal", "list"], &[]).await.contains("login\tlogin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_refused_by_name() {
    let db = Db::fresh().await;
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let place = Place::new();
    let create = |rest: &[&'static str]| [&["api-key", "create", "edge"], rest].concat();
    for (flags, words) in [
        (create(&[]), &["--expires-in"][..]),
        (create(&["--expires-in", "0s"]), &["--expires-in", "1s to 366d"]),
        (create(&["--expires-in", "367d"]), &["--expires-in", "1s to 366d"]),
        (create(&["--expires-in", "1d"]), &["no principal", "--role"]),
        (create(&["--expires-in", "1d", "--role", "root"]), &["--role", "gateway, login"]),
        (create(&["--expires-in", "1d", "--role", "admin"]), &["--tenant"]),
        (vec!["api-key", "revoke", "x"], &["no key", "api-key list"]),
        (vec!["principal", "set", "edge", "--tenant", "a"], &["--role or --scope"]),
        (
            vec!["principal", "set", "edge", "--scope", "x", "--tenant", "a"],
            &["--scope", "session.create"],
        ),
        (vec!["principal", "set", "a b", "--role", "admin", "--tenant", "a"], &["visible ASCII"]),
        (vec!["principal", "remove", "edge"], &["no principal", "principal list"]),
        (vec!["--callers", "x"], &["--callers", "authenticated"]),
        (vec!["--reflection", "x"], &["--reflection", "auto"]),
    ] {
        place.spawn(&flags, &env).ended().await.assert_refused(words);
    }
    assert_eq!(db.count("SELECT count(*) FROM principals").await, 0);
    assert!(!place.data_dir().exists(), "a given database needs no data directory");
}
