//! A failover behind one address: new connections reach the promoted server, old ones stay with the former primary.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sessiond::clock::Clock;
use sessiond::dev_postgres::{DevPostgres, DevPostgresOptions, MAX_CONNECTIONS};
use sessiond::grpc::pb;
use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use crate::harness::calls::{new_session, parts, reason};
use crate::harness::cluster::{Db, connect, open_to_all, own_cluster};
use crate::harness::proxy::Proxy;
use crate::harness::{TestServer, start_on, wait};
use crate::watch_revocations::Gateway;

const BOUND: Duration = Duration::from_secs(1);

/// A copy of the halted cluster, promoted: a newer timeline of the same database.
async fn promoted(primary: &DevPostgres) -> (DevPostgres, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    open_to_all(dir.path());
    let home = dir.path().join("home");
    let copied = Command::new("cp").arg("-a").arg(primary.data_dir()).arg(&home).status();
    assert!(copied.expect("cp runs").success());
    let start = move || {
        let copy = start(&home);
        copy.halt();
        std::fs::write(home.join("postgres/standby.signal"), "").expect("a file");
        copy.resume().expect("a standby");
        copy
    };
    let copy = tokio::task::spawn_blocking(start).await.expect("no panic");
    let admin = connect(&copy.url("sessiond")).await;
    admin.batch_execute("SELECT pg_promote()").await.expect("a promotion");
    (copy, dir)
}

fn start(home: &Path) -> DevPostgres {
    let (data_dir, max_connections) = (home.to_owned(), MAX_CONNECTIONS);
    let options = DevPostgresOptions { data_dir, pg_bin: None, fsync: false, max_connections };
    DevPostgres::start(options).expect("a copy that starts")
}

/// A replica with its own proxy to the database.
async fn behind(proxy: &Proxy, db: &Db) -> TestServer {
    start_on(db.clone(), Clock::system(), |settings| settings.database_url = proxy.url.clone())
        .await
}

async fn is_active(server: &TestServer, token: &str) -> bool {
    let judged = server.try_validate(token).await;
    judged.is_ok_and(|answer| answer.outcome() == pb::Outcome::Active)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_a_fenced_former_primary_trusts_no_cache_and_moves_to_the_new_one() {
    let (primary, _dir) = own_cluster().await;
    let db = Db::of(&primary);
    let ways = [Proxy::before(&db.url), Proxy::before(&db.url)];
    let (one, two) = (behind(&ways[0], &db).await, behind(&ways[1], &db).await);
    let (id, token, refresh) = parts(&one.create("ada").await);
    let (watcher, gateway) = (one.watch("").await, Gateway::open(&one, "").await);
    tokio::task::block_in_place(|| primary.halt());
    let (copy, _copy_dir) = promoted(&primary).await;
    tokio::task::block_in_place(|| primary.resume().expect("it comes up again"));
    // Both replicas have connections to the former primary, and have cached the session.
    for server in [&one, &two] {
        wait::until(async || is_active(server, &token).await).await;
        wait::until(async || server.try_validate_now(&token).await.is_ok()).await;
    }
    ways.iter().for_each(|way| way.redirect(&copy.url("sessiond")));
    let admin = connect(&db.url).await;
    let fence = "ALTER SYSTEM SET default_transaction_read_only = on";
    admin.batch_execute(fence).await.expect("a setting");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("a reload");
    let there = Db::of(&copy);
    let ended = "SELECT count(*) FROM user_sessions WHERE state = 2";
    wait::until(async || one.terminate(&id).await.is_ok() && there.count(ended).await == 1).await;
    let since = Instant::now();
    // A replica may be unavailable for a while, but must not validate the token beyond the bound.
    wait::until(async || {
        let asked = Instant::now();
        match two.try_validate(&token).await {
            Ok(answer) if answer.outcome() == pb::Outcome::Active => {
                assert!(asked.duration_since(since) < BOUND, "it follows the former primary");
                false
            }
            Ok(answer) => answer.inactive_reason() == pb::InactiveReason::SessionTerminated,
            Err(_) => false,
        }
    })
    .await;
    two.refresh(&refresh).await.expect_err("it is over everywhere");
    // Everything works with the new primary.
    wait::until(async || two.try_create(new_session("bob")).await.is_ok()).await;
    wait::until(async || two.health("").await.is_ok_and(|status| status == Serving)).await;
    // The new primary assigns transaction ids again, so an older cursor may name other transactions.
    let cursor = watcher.cursor;
    let resumed =
        two.watch_sessions(pb::WatchSessionsRequest { cursor, ..Default::default() }).await;
    assert_eq!(reason(&resumed.err().expect("it is over")), "CURSOR_EXPIRED");
    assert_eq!(Gateway::open(&two, &gateway.cursor).await.resyncs, 1);
}
