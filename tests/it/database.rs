//! A database with settings of its own: language, isolation level, formats.

use chrono::Duration;
use futures_util::future::{join, join_all};
use sessiond::grpc::pb;
use sessiond::model::detection::DetectionSettings;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::Serving;

use crate::harness::calls::{assert_unavailable, new_session, parts, reason};
use crate::harness::cluster::Db;
use crate::harness::policies::{idle, set};
use crate::harness::wait::until;
use crate::harness::{audit, clock, start, start_on};

/// Makes creates fail with the code in `fault`, and a message that is not English.
const FAULT: &str = "CREATE TABLE fault (code text);
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE found text;
    BEGIN
        SELECT code INTO found FROM fault;
        IF found IS NOT NULL THEN
            RAISE EXCEPTION 'Die Anweisung ist nicht ausgeführt worden' USING ERRCODE = found;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER fail BEFORE INSERT ON user_sessions FOR EACH ROW EXECUTE FUNCTION fail()";

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_one_in_every_language() {
    let server = start().await;
    let admin = server.db.connect().await;
    admin.batch_execute(FAULT).await.expect("a trigger");
    for code in ["40001", "40P01", "55P03", "57014", "25006", "53100", "53200", "57P01", "58030"] {
        let set = format!("DELETE FROM fault; INSERT INTO fault VALUES ('{code}')");
        admin.batch_execute(&set).await.expect("a code");
        let refused = server.try_create(new_session("ada")).await.expect_err(code);
        assert_unavailable(&refused);
    }
    for code in ["P0001", "42501", "22001", "XX000"] {
        let set = format!("DELETE FROM fault; INSERT INTO fault VALUES ('{code}')");
        admin.batch_execute(&set).await.expect("a code");
        let refused = server.try_create(new_session("ada")).await.expect_err(code);
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Internal, "INTERNAL"));
    }
    admin.batch_execute("DELETE FROM fault").await.expect("ok");
    server.create("ada").await;
}

/// Asserts that a policy change, 16 concurrent ones, and 16 concurrent ends of sessions work.
async fn works_with(default: &str) {
    let db = Db::fresh().await;
    let name = db.url.split('?').next().and_then(|url| url.rsplit('/').next()).expect("a name");
    let alter = format!("ALTER DATABASE {name} SET {default}");
    db.connect().await.batch_execute(&alter).await.expect("a default");
    let server = start_on(db, clock(), |settings| {
        settings.detection = DetectionSettings::default();
    })
    .await;
    let users: Vec<String> = (0..16).map(|i| format!("user-{i}")).collect();
    join_all(users.iter().map(|user| server.create(user))).await;

    // Each change for its own client: changes for one client wait for the lock on its level.
    let changing = join_all(users.iter().map(async |user| {
        let policy =
            pb::Policy { client_id: user.clone(), ..idle("default", Duration::minutes(5)) };
        server.try_update(set(policy)).await
    }));
    let ending = join_all(users.iter().map(async |user| {
        let filter = Some(pb::SessionFilter { user_id: user.clone(), ..Default::default() });
        let request = pb::TerminateSessionsRequest { filter, ..Default::default() };
        server.terminate_many(request).await
    }));
    let (changed, ended) = join(changing, ending).await;
    let failed = changed.iter().filter(|changed| changed.is_err()).count();
    assert_eq!(failed, 0, "of 16 policies with {default}");
    let failed = ended.iter().filter(|ended| ended.is_err()).count();
    assert_eq!(failed, 0, "of 16 terminations with {default}");
    for ended in ended.into_iter().flatten() {
        assert_eq!(ended.terminated_count, 1, "{default}");
    }
    // Detection and statistics must each advance past all activities.
    let behind = "SELECT count(*) FROM feed_consumers c, session_activities a
        WHERE NOT pg_visible_in_snapshot(a.xid, c.read_to::pg_snapshot)";
    until(async || server.db.count(behind).await == 0).await;
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stricter_isolation_by_default_changes_nothing() {
    works_with("default_transaction_isolation = 'repeatable read'").await;
    works_with("default_transaction_isolation = 'serializable'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_gets_the_settings_that_it_needs() {
    // As if the server, the database or the role had these defaults.
    let defaults = [
        "statement_timeout=300",
        "lock_timeout=300",
        "idle_in_transaction_session_timeout=300",
        "idle_session_timeout=300",
        "default_transaction_isolation=serializable",
        "default_transaction_deferrable=on",
        "standard_conforming_strings=off",
        "DateStyle=SQL,DMY",
        "IntervalStyle=sql_standard",
        "TimeZone=Asia/Kathmandu",
        "bytea_output=escape",
        "extra_float_digits=-15",
        "row_security=off",
        "quote_all_identifiers=on",
    ];
    let options: String = defaults.iter().map(|default| format!("-c {default} ")).collect();
    let options = options.replace(' ', "%20").replace('=', "%3D").replace('/', "%2F");
    let db = Db::fresh().await;
    let server = start_on(db.clone(), clock(), |settings| {
        settings.database_url = format!("{}&options={options}", db.url);
    })
    .await;
    server.until_health(Serving).await;
    let created = server.create("Łucja ü 🙂").await;
    let (id, access, _) = parts(&created);
    assert_eq!(server.get(&id).await.expect("a session"), created.session.expect("a session"));
    assert_eq!(server.validate_now(&access).await.outcome(), pb::Outcome::Active);
    server.terminate(&id).await.expect("ok").expect("the session");
    for (kind, count) in [(1, 1), (3, 1)] {
        assert_eq!(server.activities(kind).await, count, "kind {kind}");
    }
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_the_name_that_the_url_gives_them() {
    let db = Db::fresh().await;
    let named = async |name: &str| {
        let count = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE application_name = '{name}' AND datname = current_database()"
        );
        db.count(&count).await
    };
    let server = start_on(db.clone(), clock(), |settings| {
        settings.database_url = format!("{}&application_name=shop%20one", db.url);
    })
    .await;
    server.create("ada").await;
    assert!(named("shop one").await > 0);
    assert_eq!(named("sessiond").await, 0);
}
