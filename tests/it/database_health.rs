//! Health depends on whether the database accepts writes, not on how busy the pool is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sessiond::dev_postgres::DevPostgres;
use sessiond::grpc::pb;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;

use crate::harness::calls::{assert_unavailable, new_session, parts};
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::load::judged;
use crate::harness::wait::until;
use crate::harness::{clock, impatient, start_on, start_with};

/// The number of probes that are running, by their statement.
const ASKING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%pg_is_in_recovery()%'
    AND pid <> pg_backend_pid() AND query_start > ";

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pool_is_no_lost_database() {
    let server = start_with(|settings| {
        impatient(settings);
        settings.database_connections = 2;
    })
    .await;
    server.until_health(Serving).await;
    let made = join_all((0..40).map(|_| server.create("ada"))).await;
    let ids: Vec<String> = made.iter().map(|created| parts(created).0).collect();
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(server.another_channel().await).watch(request).await;
    let mut stream = answer.expect("a stream").into_inner();
    let lost = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn({
        let lost = lost.clone();
        async move {
            while let Some(Ok(next)) = stream.next().await {
                lost.fetch_or(next.status() == NotServing, Ordering::Relaxed);
            }
        }
    });
    let locked = server.db.hold("SELECT 1 FROM user_sessions FOR UPDATE").await;
    for _ in 0..3 {
        let ended = join_all((0..64).map(|i| judged(server.terminate(&ids[i % 40])))).await;
        assert!(ended.iter().all(Option::is_none), "the rows are locked");
    }
    assert!(!lost.load(Ordering::Relaxed), "health said that the database is lost");
    drop(locked);
    watching.abort();
    until(async || judged(server.terminate(&ids[0])).await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_became_read_only_is_not_served_until_it_writes_again() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let server = start_on(db.clone(), clock(), |_| {}).await;
    server.until_health(Serving).await;
    let (_, access, _) = parts(&server.create("ada").await);
    let admin = db.connect().await;
    let set = async |value: &str| {
        admin.batch_execute("SET default_transaction_read_only = off").await.expect("ok");
        let alter = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        admin.batch_execute(&alter).await.expect("a setting");
        admin.batch_execute("SELECT pg_reload_conf()").await.expect("a reload");
    };
    set("on").await;
    server.until_health(NotServing).await;
    assert_unavailable(&server.try_create(new_session("ada")).await.expect_err("read-only"));
    // A fenced former primary looks the same: its rows may be outdated.
    let judged = async || server.try_validate_now(&access).await;
    until(async || judged().await.is_err_and(|status| is_unavailable(&status))).await;
    set("off").await;
    server.until_health(Serving).await;
    server.create("ada").await;
    assert_eq!(server.validate_now(&access).await.outcome(), pb::Outcome::Active);
}

fn is_unavailable(status: &Status) -> bool {
    assert_unavailable(status);
    true
}

fn restart(postgres: &DevPostgres, meanwhile: impl FnOnce()) {
    tokio::task::block_in_place(|| {
        postgres.halt();
        meanwhile();
        postgres.resume().expect("it comes up");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_served_until_it_is_promoted() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let server = start_on(db.clone(), clock(), |_| {}).await;
    server.until_health(Serving).await;
    let signal = postgres.data_dir().join("postgres/standby.signal");
    restart(&postgres, || std::fs::write(&signal, "").expect("a file"));
    let admin = db.connect().await;
    let began = admin.query_one("SELECT clock_timestamp()::text", &[]).await.expect("the time");
    let asked = format!("{ASKING} '{}'", began.get::<_, String>(0));
    until(async || db.count(&asked).await > 0).await;
    assert_eq!(server.health("").await.expect("an answer"), NotServing);
    assert_unavailable(&server.try_create(new_session("ada")).await.expect_err("a standby"));
    assert_eq!(server.health("").await.expect("an answer"), NotServing);
    admin.batch_execute("SELECT pg_promote()").await.expect("a promotion");
    server.until_health(Serving).await;
    server.create("ada").await;
}
