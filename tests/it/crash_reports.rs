//! Accepted reports survive a kill of the server.

use futures_util::future::join_all;
use rustix::process::Signal;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::harness::process::Place;

const CALLERS: usize = 8;
const A_CALL: usize = 500;

/// Reports until the server is gone; returns the number of each acknowledged call.
async fn report(
    mut client: SessionServiceClient<Channel>,
    caller: usize,
    count: &watch::Sender<usize>,
) -> Vec<String> {
    let mut answered = Vec::new();
    for call in 0.. {
        let name = format!("{caller}-{call}");
        let activity = pb::ReportedActivity {
            user_id: format!("user-{caller}"),
            kind: pb::ActivityKind::Custom.into(),
            name: name.clone(),
            success: Some(true),
            ..Default::default()
        };
        let activities = vec![activity; A_CALL];
        let request = pb::RecordActivitiesRequest { activities, ..Default::default() };
        let Ok(answer) = client.record_activities(request).await else { break };
        assert_eq!(answer.into_inner().accepted_count as usize, A_CALL);
        answered.push(name);
        count.send_modify(|count| *count += 1);
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_report_survives_kill_9_and_no_call_is_half_done() {
    let place = Place::new();
    let (process, client) = place.serve().await;
    let count = watch::Sender::new(0);
    let killing = async {
        let mut counted = count.subscribe();
        counted.wait_for(|count| *count >= 40).await.expect("reports go on");
        process.signal(Signal::KILL);
    };
    let callers = join_all((0..CALLERS).map(|n| report(client.clone(), n, &count)));
    let (answered, ()) = tokio::join!(callers, killing);
    assert!(!process.ended().await.status.success());
    let (_process, _client) = place.serve().await;
    let sql = "SELECT name, count(*) FROM session_activities WHERE kind = 25 GROUP BY name";
    let rows = place.connect().await.query(sql, &[]).await.expect("a query");
    let there: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let answered: Vec<String> = answered.concat();
    assert!(answered.len() >= 40);
    for name in &answered {
        assert!(there.contains(&(name.clone(), A_CALL as i64)), "{name} was accepted");
    }
    assert!(there.iter().all(|(_, count)| *count == A_CALL as i64), "{there:?}");
    assert!(there.len() <= answered.len() + CALLERS, "a call each was on its way");
}
