//! Tasks that panic: the server reports them, restarts them, and keeps serving.

use chrono::Duration;
use sessiond::grpc::pb;

use crate::harness::calls::parts;
use crate::harness::scrape::{get, scrape, with_port};
use crate::harness::{start_with, wait};

const FAILURES: &str = "sessiond_task_failures_total{task=\"follow_revocations\"}";
const DOWN: &str = "sessiond_tasks_down";

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_is_counted_makes_the_server_unready_and_recovers() {
    let server = start_with(with_port).await;
    let other = server.replica().await;
    wait::until(async || get(&server, "/readyz").await.0 == 200).await;
    let before = scrape(&server).await;
    assert_eq!((before[FAILURES], before[DOWN]), (0.0, 0.0));
    // Beyond the range of dates: every task that reads the time panics.
    let far = Duration::days(270_000 * 365);
    server.advance(far);
    wait::until(async || scrape(&server).await[FAILURES] >= 2.0).await;
    assert!(scrape(&server).await[DOWN] >= 1.0);
    let (status, _, said) = get(&server, "/readyz").await;
    assert_eq!(
        (status, said.as_str()),
        (503, "a task of the server failed and is started again\n")
    );
    assert_eq!(get(&server, "/healthz").await.0, 200);

    server.advance(-far);
    wait::until(async || get(&server, "/readyz").await.0 == 200).await;
    wait::until(async || scrape(&server).await[DOWN] == 0.0).await;
    // The server follows the revocation feed again.
    let (id, token, _) = parts(&server.create("ada").await);
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    other.terminate(&id).await.expect("ok");
    let inactive = pb::Outcome::Inactive;
    wait::until(async || server.validate(&token).await.outcome() == inactive).await;
    server.stop().await;
}
