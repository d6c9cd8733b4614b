//! A restored database: by a dump into another cluster or over itself, and from a backup of the cluster. The steps are
//! those of docs/RESTORE.md.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use sessiond::dev_postgres::DevPostgres;
use sessiond::grpc::pb;
use sessiond::model::lineage::OnRestore;

use crate::harness::calls::{new_session, parts, reason};
use crate::harness::cluster::{Db, bin_dir, connect, own_cluster};
use crate::harness::process::{Place, outcome};
use crate::harness::scrape::{scrape, with_port};
use crate::harness::stepping::second_factor;
use crate::harness::wait::until;
use crate::harness::{TestServer, clock, start_on};

const RESTORED: &str = "sessiond_database_restored_total";

/// Runs a program: one of Postgres's from the directory in use, or one in PATH.
async fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) {
    let beside = bin_dir().await.join(program);
    let program = if beside.is_file() { beside } else { PathBuf::from(program) };
    let done = Command::new(&program).args(arguments).output().expect("the program runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", program.display());
}

async fn dump(cluster: &DevPostgres, file: &Path) {
    let (url, file) = (cluster.url("sessiond"), file.to_str().expect("text"));
    run("pg_dump", &["--format=custom", "--file", file, url.as_str()]).await;
}

async fn restore(cluster: &DevPostgres, file: &Path) {
    let (url, file) = (cluster.url("sessiond"), file.to_str().expect("text"));
    run("pg_restore", &["--dbname", url.as_str(), file]).await;
}

/// Replaces the database by an empty one, even if clients are connected.
async fn replace(cluster: &DevPostgres) {
    let admin = connect(&cluster.url("postgres")).await;
    admin.batch_execute("DROP DATABASE sessiond WITH (FORCE)").await.expect("it goes");
    admin.batch_execute("CREATE DATABASE sessiond").await.expect("an empty one");
}

/// Uses up transaction ids.
async fn spend(cluster: &DevPostgres, count: u32) {
    let spending = format!(
        "DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    );
    connect(&cluster.url("postgres")).await.batch_execute(&spending).await.expect("ok");
}

/// Asserts that there is exactly one alert, of no user.
async fn assert_one_alert(server: &TestServer) {
    let request = pb::ListAlertsRequest::default();
    let found = server.list_alerts(request).await.expect("a list").alerts;
    let [alert] = &found[..] else { panic!("{found:?}") };
    assert_eq!(alert.category(), pb::Category::DataIntegrity);
    assert_eq!(alert.severity(), pb::Severity::Critical);
    assert_eq!((alert.user_id.as_str(), alert.rule_id.as_str()), ("", "data_regression"));
    assert_eq!(alert.occurrence_count, 1, "{alert:?}");
}

async fn until_restored(server: &TestServer, times: f64) {
    until(async || scrape(server).await[RESTORED] == times).await;
}

/// Waits until detection and statistics have read everything.
async fn until_read(server: &TestServer) {
    let unread = "SELECT count(*) FROM feed_consumers c, session_activities a
        WHERE a.xmin = a.xid::xid AND NOT pg_visible_in_snapshot(a.xid, c.read_to::pg_snapshot)";
    until(async || server.db.count(unread).await == 0).await;
}

/// Restores a dump from a cluster with a greater or smaller transaction id than that of the target.
async fn a_dump_moves(spent_there: u32, spent_here: u32) {
    let (there, dir) = own_cluster().await;
    spend(&there, spent_there).await;
    let server = start_on(Db::of(&there), clock(), with_port).await;
    let (ended, token, _) = parts(&server.create("ada").await);
    server.step_up(&ended).await;
    server.terminate(&ended).await.expect("ok").expect("the session");
    let (_, good, _) = parts(&server.create("bob").await);
    until_read(&server).await;
    assert_eq!(scrape(&server).await[RESTORED], 0.0);
    let (_, clock) = server.stop().await;
    let file = dir.path().join("dump");
    dump(&there, &file).await;

    let (here, _dir) = own_cluster().await;
    spend(&here, spent_here).await;
    restore(&here, &file).await;
    let server = start_on(Db::of(&here), clock, with_port).await;
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Inactive);
    assert_eq!(server.validate(&good).await.outcome(), pb::Outcome::Active);
    assert_eq!(scrape(&server).await[RESTORED], 1.0);
    assert_one_alert(&server).await;
    // The restore rewrote nothing in the audit trail, and its readers continue.
    let kept = "SELECT count(*) FROM session_activities WHERE xid IS NOT NULL AND xmin <> xid::xid";
    assert!(server.db.count(kept).await >= 4);
    let (other, token, _) = parts(&server.create("ada").await);
    server.terminate(&other).await.expect("ok").expect("the session");
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Inactive);
    until_read(&server).await;
    // A restore is detected once.
    let (db, clock) = server.stop().await;
    let server = start_on(db, clock, with_port).await;
    assert_eq!(scrape(&server).await[RESTORED], 0.0);
    assert_one_alert(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_starts_in_a_cluster_that_has_not_come_so_far() {
    a_dump_moves(3_000, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_starts_in_a_cluster_that_has_come_further() {
    a_dump_moves(0, 3_000).await;
}

/// Two replicas whose database was replaced by a dump.
struct Restored {
    server: TestServer,
    _replica: TestServer,
    /// The session that ended after the dump.
    ended: String,
    /// The access token of that session, and of a session of another tenant.
    tokens: [String; 2],
    // Dropped last.
    _cluster: DevPostgres,
    _dir: tempfile::TempDir,
}

/// Restores a dump from before the end of a session.
async fn restored_under_replicas(on_restore: OnRestore) -> Restored {
    let (cluster, dir) = own_cluster().await;
    let server = start_on(Db::of(&cluster), clock(), |settings| {
        with_port(settings);
        settings.on_restore = on_restore;
    })
    .await;
    let replica = server
        .replica_with(|settings| {
            with_port(settings);
            settings.on_restore = on_restore;
        })
        .await;
    let (ended, token, _) = parts(&server.create("ada").await);
    let mut other = new_session("bob");
    other.tenant_id = "other".to_owned();
    let (_, of_other, _) = parts(&server.try_create(other).await.expect("a session"));
    let file = dir.path().join("dump");
    dump(&cluster, &file).await;
    server.terminate(&ended).await.expect("ok").expect("the session");
    assert_eq!(server.validate_now(&token).await.outcome(), pb::Outcome::Inactive);
    server.advance(chrono::Duration::seconds(1));
    replace(&cluster).await;
    restore(&cluster, &file).await;
    until_restored(&server, 1.0).await;
    until_restored(&replica, 1.0).await;
    assert_one_alert(&server).await;
    let tokens = [token, of_other];
    Restored { server, _replica: replica, ended, tokens, _cluster: cluster, _dir: dir }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alert_of_all_replicas_reports_what_an_older_dump_revives() {
    let restored = restored_under_replicas(OnRestore::Alert).await;
    let server = &restored.server;
    assert_eq!(
        server.validate_now(&restored.tokens[0]).await.outcome(),
        pb::Outcome::Active,
        "it is back"
    );
    assert_one_alert(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_dump_revives_is_over_if_the_operator_says_so() {
    let restored = restored_under_replicas(OnRestore::EndAll).await;
    let server = &restored.server;
    // Refused at once, even before the rows are written.
    for token in &restored.tokens {
        assert_eq!(server.validate(token).await.outcome(), pb::Outcome::Inactive);
    }
    let left = "SELECT count(*) FROM database_restores WHERE NOT complete";
    until(async || server.db.count(left).await == 0).await;
    let session = server.get(&restored.ended).await.expect("the session");
    assert_eq!(session.end_reason(), pb::EndReason::DataRegression);
    let live = "SELECT count(*) FROM user_sessions WHERE state = 1";
    assert_eq!(server.db.count(live).await, 0);
    let withdrawn = "SELECT count(*) FROM revocations WHERE level = 4";
    assert_eq!(server.db.count(withdrawn).await, 2, "one for each tenant");
    let (_, token, _) = parts(&server.create("ada").await);
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    assert_one_alert(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_end_is_neither_refreshed_nor_renewed_before_its_row_says_so() {
    let server = start_on(Db::fresh().await, clock(), with_port).await;
    let (ada, access, refresh) = parts(&server.create("ada").await);
    let (bob, ..) = parts(&server.create("bob").await);
    server.advance(chrono::Duration::seconds(1));
    let (db, clock) = server.stop().await;
    let restored = "INSERT INTO database_restores (lineage, noticed_at, end_all, complete)
        SELECT gen_random_uuid(), max(created_at) + interval '1 second', true, false FROM user_sessions";
    db.connect().await.batch_execute(restored).await.expect("a row");
    // The end of the sessions waits for this lock, and so does the comparison of the position.
    let locks = "SELECT 1 FROM database_position FOR UPDATE";
    let held = db.hold(locks).await;
    held.batch_execute("LOCK TABLE database_restores IN EXCLUSIVE MODE").await.expect("a lock");
    let server = start_on(db, clock, with_port).await;
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Inactive);
    let refreshed = server.refresh(&refresh).await;
    assert_eq!(reason(&refreshed.expect_err("it is over")), "SESSION_TERMINATED");
    let renewed = server.reauthenticate(second_factor(&bob)).await;
    assert_eq!(reason(&renewed.expect_err("it is over")), "SESSION_TERMINATED");
    let left = "SELECT count(*) FROM database_restores WHERE NOT complete";
    assert_eq!(server.db.count(left).await, 1);
    drop(held);
    until(async || server.db.count(left).await == 0).await;
    for id in [ada, bob] {
        let session = server.get(&id).await.expect("the session");
        assert_eq!(session.end_reason(), pb::EndReason::DataRegression);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_of_the_cluster_is_reported_after_a_start_too() {
    let place = Place::new();
    let (process, mut client) = place.serve().await;
    let created = client.create_session(new_session("ada")).await.expect("a session").into_inner();
    let (id, token, _) = parts(&created);
    let (cluster, backup) =
        (place.data_dir().join("postgres"), place.data_dir().with_extension("backup"));
    // A backup of the running server.
    let to = backup.to_str().expect("text");
    run("pg_basebackup", &["--pgdata", to, "--checkpoint=fast", "--dbname", &place.url()]).await;
    let target = pb::terminate_session_request::Target::SessionId(id);
    let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
    client.terminate_session(request).await.expect("it ends");
    assert_eq!(outcome(&mut client, &token).await, pb::Outcome::Inactive);
    process.signal(Signal::TERM);
    let second = process.ended().await;
    assert!(second.status.success() && !second.err.contains("was restored"), "{}", second.err);

    // The operator makes it readable for Postgres.
    let owner = std::fs::metadata(&cluster).expect("a directory");
    run("chown", &["-R", &format!("{}:{}", owner.uid(), owner.gid()), to]).await;
    std::fs::remove_dir_all(&cluster).expect("our directory");
    std::fs::rename(&backup, &cluster).expect("the backup in its place");
    let (process, mut client) = place.serve().await;
    assert_eq!(outcome(&mut client, &token).await, pb::Outcome::Active, "it is back");
    let alerts =
        "SELECT count(*) FROM security_alerts WHERE rule_id = 'data_regression' AND severity = 5";
    let database = place.connect().await;
    let count = database.query_one(alerts, &[]).await.expect("a query").get::<_, i64>(0);
    assert_eq!(count, 1);
    let said = process.said();
    assert_eq!(said.matches("the database was restored").count(), 1, "{said}");
}
