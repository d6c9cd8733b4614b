//! Silent servers, and connections that died without a notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use sessiond::store::pool::Database;
use tokio::net::TcpListener;
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use crate::harness::calls::new_session;
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::wait::until;
use crate::harness::{clock, start, start_on};

/// A listener that accepts connections, counts them, and sends nothing.
async fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("a port");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    });
    (addr, count)
}

/// The URL of `db` with another server before it.
fn behind(first: SocketAddr, db: &Db) -> String {
    let config: tokio_postgres::Config = db.url.parse().expect("a URL");
    let [tokio_postgres::config::Host::Unix(dir)] = config.get_hosts() else {
        panic!("the tests' Postgres listens on a Unix socket");
    };
    let dir = dir.to_str().expect("a plain path").replace('/', "%2F");
    let name = config.get_dbname().expect("a database");
    format!("postgresql://sessiond@{first},{dir}:5432/{name}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_first_host_leaves_time_for_the_second() {
    let db = Db::fresh().await;
    let (first, count) = silent().await;
    let server = start_on(db.clone(), clock(), |settings| {
        settings.database_url = behind(first, &db);
    })
    .await;
    server.until_health(Serving).await;
    let users: Vec<String> = (0..20).map(|i| format!("user-{i}")).collect();
    join_all(users.iter().map(|user| server.create(user))).await;
    // The server that answered is tried first for later connections, so that they do not wait for the silent one. A
    // connection that is killed during its setup tries the next server, so a round may fail.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'sessiond' AND datname = current_database()";
    until(async || {
        let waited = count.load(Ordering::Relaxed);
        assert!(db.count(kill).await > 0);
        server.until_health(Serving).await;
        let creates = users.iter().map(|user| server.try_create(new_session(user)));
        let served = join_all(creates).await.iter().all(Result::is_ok);
        served && count.load(Ordering::Relaxed) == waited
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_one_that_writes_is_taken() {
    let (postgres, _dir) = own_cluster().await;
    let standby = Db::of(&postgres);
    let admin = standby.connect().await;
    admin.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.expect("ok");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("ok");
    let show = "SELECT (current_setting('default_transaction_read_only') = 'on')::int::bigint";
    until(async || standby.count(show).await == 1).await;
    let primary = Db::fresh().await;
    let config = |db: &Db| db.url.parse::<tokio_postgres::Config>().expect("a URL");
    let hosts = [&standby, &primary].map(|db| match config(db).get_hosts() {
        [tokio_postgres::config::Host::Unix(dir)] => {
            dir.to_str().expect("plain").replace('/', "%2F")
        }
        _ => panic!("one socket"),
    });
    // The same database name on both.
    let name = config(&primary).get_dbname().expect("a name").to_owned();
    admin.batch_execute("SET default_transaction_read_only = off").await.expect("ok");
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
    let url = format!("postgresql://sessiond@{},{}/{name}", hosts[0], hosts[1]);
    Database::new(&url, 2).expect("a URL").ping().await.expect("the one that writes");
    let alone = format!("postgresql://sessiond@{}/{name}", hosts[0]);
    let refused = Database::new(&alone, 2).expect("a URL").ping().await.expect_err("read-only");
    assert!(refused.to_string().contains("read-only"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_dropped_are_not_handed_out() {
    let server = start().await;
    server.until_health(Serving).await;
    let users: Vec<String> = (0..20).map(|i| format!("user-{i}")).collect();
    for _ in 0..5 {
        join_all(users.iter().map(|user| server.create(user))).await;
        let all = "application_name = 'sessiond' AND datname = current_database()";
        let kill = format!(
            "SELECT count(pg_terminate_backend(pid, 20000)) FROM pg_stat_activity
             WHERE state = 'idle' AND {all}"
        );
        assert!(server.db.count(&kill).await > 0);
        join_all(users.iter().map(|user| server.create(user))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fell_silent_is_replaced_when_it_is_taken() {
    let db = Db::fresh().await;
    let proxy = Proxy::before(&db.url);
    let pool = Database::new(&proxy.url, 1).expect("a URL");
    pool.begin().await.expect("a connection").commit().await.expect("it works");
    let idle = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'sessiond' AND datname = current_database()
        AND state_change < clock_timestamp() - interval '1.5 seconds'";
    until(async || db.count(idle).await == 1).await;
    proxy.set(Mode::MuteOld);
    let lent = pool.within(pool.begin()).await.expect("another connection");
    lent.commit().await.expect("it works");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_behind_a_statement_that_its_caller_gave_up() {
    let db = Db::fresh().await;
    let pool = Database::new(&db.url, 1).expect("a URL");
    let mut conn = pool.acquire().await.expect("a connection");
    conn.batch_execute("SET statement_timeout = 0").await.expect("ok");
    let sleeping = conn.batch_execute("SELECT pg_sleep(600)");
    let given_up = tokio::time::timeout(Duration::from_millis(100), sleeping).await;
    assert!(given_up.is_err(), "it sleeps");
    drop(conn);
    pool.ping().await.expect("it answers");
    let next = pool.within(async {
        pool.acquire().await?.batch_execute("SELECT 1").await.map_err(Into::into)
    });
    next.await.expect("another connection");
    // A connection that answers soon is kept.
    let mut conn = pool.acquire().await.expect("a connection");
    conn.batch_execute("SET application_name = 'kept'").await.expect("ok");
    let brief = conn.batch_execute("SELECT pg_sleep(0.01)");
    assert!(tokio::time::timeout(Duration::ZERO, brief).await.is_err());
    drop(conn);
    let kept = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kept'";
    pool.acquire().await.expect("the same").batch_execute("SELECT 1").await.expect("ok");
    assert_eq!(db.count(kept).await, 1);
}
