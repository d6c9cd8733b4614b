//! A row that is inserted into the default partition while the partition of its month is created.

use crate::harness::{start, wait};

/// `store/error.rs` recognises this error: no other check violation names a table and no constraint.
#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_lost_partition_race_names_the_table_and_no_constraint() {
    let server = start().await;
    server.create("ada").await;
    let stray = "SELECT count(*) FROM session_activities_default";
    let made = "SELECT count(*) FROM session_activities";
    wait::until(async || server.db.count(made).await > server.db.count(stray).await).await;
    let late = "INSERT INTO session_activities_default
        SELECT (json_populate_record(a, json_build_object('activity_id', gen_random_uuid()))).*
        FROM session_activities a WHERE a.tableoid <> 'session_activities_default'::regclass LIMIT 1";
    let refused = server.db.connect().await.batch_execute(late).await.expect_err("a refusal");
    let refused = refused.as_db_error().expect("of the database");
    assert_eq!((refused.code().code(), refused.constraint()), ("23514", None));
    assert_eq!(refused.table(), Some("session_activities_default"));
}
