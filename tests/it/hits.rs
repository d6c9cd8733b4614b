//! A cache hit makes no database query.

use std::time::Duration;

use sessiond::grpc::pb;
use tokio_postgres::Client;

use crate::harness::calls::parts;
use crate::harness::cluster::Db;
use crate::harness::{clock, start_on, wait};

/// The interval of all jobs except the revocation feed.
const SELDOM: Duration = Duration::from_secs(3600);
const HITS: i64 = 2000;
/// More transactions than the jobs make during the hits, also on a busy machine, and far less than one for each hit.
const OF_ITS_OWN: i64 = HITS / 2;

/// All transactions in the database so far. Postgres counts those of a connection when it ends.
async fn transactions(looker: &Client) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    wait::until(async || {
        looker.query_one(others, &[]).await.expect("a query").get::<_, i64>(0) == 0
    })
    .await;
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database
        WHERE datname = current_database()";
    looker.query_one(sql, &[]).await.expect("a query").get(0)
}

/// The number of transactions of a server from start to end that answers so many validations.
async fn spent_on(db: &Db, looker: &Client, validations: i64) -> i64 {
    let before = transactions(looker).await;
    let server = start_on(db.clone(), clock(), |settings| {
        let intervals = &mut settings.intervals;
        for interval in [
            &mut intervals.flush,
            &mut intervals.sweep,
            &mut intervals.probe,
            &mut intervals.retain,
            &mut intervals.apply,
            &mut intervals.detect,
            &mut intervals.locations,
            &mut intervals.roll_up,
            &mut intervals.rotate,
        ] {
            *interval = SELDOM;
        }
    })
    .await;
    let (_, token, _) = parts(&server.create("ada").await);
    // Once the server follows the revocation feed.
    wait::until(async || server.validate(&token).await.watermark != "w0").await;
    for _ in 0..validations {
        assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    }
    drop(server.stop().await);
    transactions(looker).await - before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_makes_no_transaction() {
    let db = Db::fresh().await;
    let looker = db.connect().await;
    let idle = spent_on(&db, &looker, 0).await;
    let busy = spent_on(&db, &looker, HITS).await;
    assert!(idle > 0, "it is counted");
    assert!(busy - idle < OF_ITS_OWN, "{idle} without hits, {busy} with {HITS}");
}
