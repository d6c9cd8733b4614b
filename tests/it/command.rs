//! The command line: its errors, migrations, and two processes that start at once.

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::{Db, connect, own_cluster};
use crate::harness::process::{Place, client, outcome};
use futures_util::future::join;
use rustix::process::Signal;
use sessiond::grpc::pb;
use sessiond::token::seal::MasterKey;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_is_refused_by_name_and_with_its_rule() {
    let place = Place::new();
    for (flags, env, words) in [
        (&["--idle-timeout", "nonsense"][..], &[][..], &["--idle-timeout", "1s to 365d"][..]),
        (&[], &[("SESSIOND_ON_LIMIT", "x")], &["--on-limit", "terminate-oldest", "reject"]),
        (&["--database-connections", "1"], &[], &["--database-connections", "2..=1000"]),
        (&["--listen", "nowhere"], &[], &["--listen"]),
        (&["--refresh-grace", "2m", "--lost-response-window", "1m"], &[], &["--refresh-grace"]),
        (&["--idle-timeout", "2d"], &[], &["--idle-timeout", "--absolute-timeout"]),
        (&["--log", "=[="], &[], &["--log", "sessiond=debug"]),
        (
            &["--access-token-ttl", "2m", "--idle-timeout", "1m"],
            &[],
            &["--access-token-ttl", "--idle-timeout"],
        ),
        (&[], &[("SESSIOND_CALLER", "authenticated")], &["SESSIOND_CALLER ", "no setting"]),
        (&[], &[("SESSIOND_CALLERS", "")], &["SESSIOND_CALLERS", "empty"]),
        (&[], &[("SESSIOND_DATA_DIR", "")], &["SESSIOND_DATA_DIR", "empty"]),
        (&[], &[("DATABASE_URL", "")], &["DATABASE_URL", "empty"]),
        (&[], &[("SESSIOND_DATABASE_URL", "")], &["SESSIOND_DATABASE_URL", "empty"]),
        (
            &[],
            &[("SESSIOND_DATABASE_URL", "postgres:///a"), ("DATABASE_URL", "postgres:///b")],
            &["SESSIOND_DATABASE_URL", "twice"],
        ),
        (&["--geoip-database", "/nowhere"], &[], &["--geoip-database /nowhere", "cannot be read"]),
        (
            &[],
            &[("SESSIOND_GEOIP_ASN_DATABASE", env!("CARGO_BIN_EXE_sessiond"))],
            &["--geoip-asn-database", env!("CARGO_BIN_EXE_sessiond"), "no sound file"],
        ),
    ] {
        place.spawn(flags, env).ended().await.assert_refused(words);
    }
    let kept = place.spawn(&["--master-key", "c2hvcnQ="], &[("DATABASE_URL", "postgres:///x")]);
    let ended = kept.ended().await;
    ended.assert_refused(&["--master-key", "32 bytes"]);
    assert!(!ended.err.contains("c2hvcnQ="), "it repeats a secret: {}", ended.err);
    assert!(!place.data_dir().exists(), "nothing was set up for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_in_use_is_refused_to_a_second_instance() {
    let place = Place::new();
    let (process, mut client) = place.serve().await;
    let second = place.spawn(&[], &[]).ended().await;
    let data_dir = place.data_dir();
    second.assert_refused(&["another sessiond", "--data-dir", data_dir.to_str().expect("text")]);
    client.create_session(new_session("ada")).await.expect("the first is not disturbed");
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_runs_alone_and_twice() {
    let (postgres, _dir) = own_cluster().await;
    let url = postgres.url("sessiond");
    let env = [("SESSIOND_DATABASE_URL", url.as_str())];
    let place = Place::new();
    for said in ["Applied 00000000000001", "The database is up to date."] {
        let ended = place.spawn(&["migrate"], &env).ended().await;
        assert!(ended.status.success(), "{}", ended.err);
        assert!(ended.out.contains(said), "{}", ended.out);
    }
    let tables = "SELECT count(*) FROM user_sessions, session_activities, signing_keys";
    let row = connect(&url).await.query_one(tables, &[]).await.expect("all tables are there");
    assert_eq!(row.get::<_, i64>(0), 0);
    assert!(!place.data_dir().exists(), "a given database needs no data directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_come_up_at_once_on_a_new_database_with_one_set_of_keys() {
    let (postgres, _dir) = own_cluster().await;
    let url = postgres.url("sessiond");
    let env = [("DATABASE_URL", url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let place = Place::new();
    let (mut one, mut two) = (place.spawn(&[], &env), place.spawn(&[], &env));
    let (one, two) = join(one.addr(), two.addr()).await;
    let (mut one, mut two) = (client(one).await, client(two).await);
    let mut sets = Vec::new();
    for client in [&mut one, &mut two] {
        let request = pb::GetJsonWebKeySetRequest {};
        sets.push(client.get_json_web_key_set(request).await.expect("keys").into_inner());
    }
    assert_eq!(sets[0].keys.len(), 1);
    assert_eq!(sets[0], sets[1]);
    let created = one.create_session(new_session("ada")).await.expect("a session");
    let (_, access, refresh_token) = parts(created.get_ref());
    assert_eq!(outcome(&mut two, &access).await, pb::Outcome::Active);
    let request = pb::RefreshSessionRequest { refresh_token, client: None };
    two.refresh_session(request).await.expect("a successor");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_is_refused_with_advice() {
    let db = Db::fresh().await;
    let place = Place::new();
    let right = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&[], &right);
    process.addr().await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
    let other = MasterKey::generate();
    let wrong = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", other.as_str())];
    let ended = place.spawn(&[], &wrong).ended().await;
    ended.assert_refused(&["master key", "SESSIOND_MASTER_KEY_FILE"]);
    assert!(!ended.err.contains(&other), "it repeats a secret: {}", ended.err);
}
