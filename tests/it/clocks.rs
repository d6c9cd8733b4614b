//! Replicas on machines whose clocks are an hour off: all use the time of the database.

use chrono::{DateTime, Duration, Utc};
use sessiond::clock::Clock;
use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts, successor};
use crate::harness::cluster::Db;
use crate::harness::{TestServer, audit, start_on, wait};

/// More than the round trip of a time sample.
const DOUBT: Duration = Duration::seconds(1);

async fn off_by(db: &Db, error: Duration) -> TestServer {
    start_on(db.clone(), Clock::system_off_by(error), |_| {}).await
}

async fn database_time(db: &Db) -> DateTime<Utc> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    DateTime::from_timestamp_micros(db.count(sql).await).expect("a time")
}

fn time(stamp: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let stamp = stamp.expect("a time");
    let nanos = u32::try_from(stamp.nanos).expect("in range");
    DateTime::from_timestamp(stamp.seconds, nanos).expect("in range")
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_are_an_hour_off_agree() {
    let db = Db::fresh().await;
    let hour = Duration::hours(1);
    let servers =
        [off_by(&db, hour).await, off_by(&db, -hour).await, off_by(&db, Duration::zero()).await];
    for (at, server) in servers.iter().enumerate() {
        let created = server.create("ada").await;
        let off =
            database_time(&db).await - time(created.session.as_ref().expect("one").create_time);
        assert!(off.abs() < DOUBT, "{off}");
        let (id, token, refresh) = parts(&created);
        for other in &servers {
            let judged = other.validate_now(&token).await;
            assert_eq!(judged.outcome(), pb::Outcome::Active);
            let off = database_time(&db).await - time(judged.checked_time);
            assert!(off.abs() < DOUBT, "{off}");
        }
        let next = &servers[(at + 1) % 3];
        let tokens = successor(next.refresh(&refresh).await);
        assert_eq!(server.validate_now(&tokens.access_token).await.outcome(), pb::Outcome::Active);
        next.terminate(&id).await.expect("ok");
    }
    audit::check(&db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_the_same_on_all_of_them() {
    let db = Db::fresh().await;
    let hour = Duration::hours(1);
    let servers = [off_by(&db, hour).await, off_by(&db, -hour).await];
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let request = pb::CreateSessionRequest { absolute_timeout: second, ..new_session("ada") };
    let created = servers[0].try_create(request).await.expect("a session");
    let deadline = time(created.session.as_ref().expect("one").absolute_expire_time);
    let (_, token, _) = parts(&created);
    for server in &servers {
        wait::until(async || {
            let judged = server.validate(&token).await;
            let now = database_time(&db).await;
            if judged.outcome() == pb::Outcome::Active {
                assert!(now < deadline + DOUBT);
                return false;
            }
            assert!(now > deadline - DOUBT);
            true
        })
        .await;
    }
}
