//! The staleness bound with replicas in processes of their own, killed and stopped.

use std::time::Instant;

use futures_util::future::join_all;
use rustix::process::Signal;
use sessiond::clock::Clock;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::process::{Place, Process, client, outcome};
use crate::harness::trials::{BOUND, Trials};
use crate::harness::{MASTER_KEY, TestServer, audit, start_on, wait};

type Client = SessionServiceClient<Channel>;

/// A replica in this process and one in another, on one database.
async fn pair(place: &Place) -> (TestServer, Process, Client) {
    let server = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let env =
        [("DATABASE_URL", server.db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let mut process = place.spawn(&[], &env);
    let client = client(process.addr().await).await;
    (server, process, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_one_replica_does_not_move_the_bound_of_the_others() {
    let place = Place::new();
    let (server, process, client) = pair(&place).await;
    let replica = server.replica().await;
    let trials = Trials::default();
    let breaking = async {
        // The replica is writing when it is killed.
        let writing = (0..8).map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let request = new_session(&format!("killed-{number}"));
                while client.create_session(request.clone()).await.is_ok() {}
            })
        });
        let writing: Vec<_> = writing.collect();
        trials.until_more(60).await;
        process.signal(Signal::KILL);
        trials.until_more(60).await;
        for writer in writing {
            writer.await.expect("no panic");
        }
    };
    trials.run(&[&server, &replica], 8, breaking).await;
    assert!(!process.ended().await.status.success());
    audit::check(&server.db).await;
}

/// A replica's outcomes for tokens; `None` if it is unavailable.
async fn outcomes(client: &Client, tokens: Vec<String>) -> Vec<Option<pb::Outcome>> {
    let asking = tokens.into_iter().map(async |access_token| {
        let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
        match client.clone().validate_session(request).await {
            Ok(judged) => Some(judged.get_ref().outcome()),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                None
            }
        }
    });
    join_all(asking).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_stopped_and_goes_on_trusts_nothing_it_knew() {
    let place = Place::new();
    let (server, process, mut client) = pair(&place).await;
    let made = join_all((0..64).map(async |i| server.create(&format!("user-{i}")).await));
    let made: Vec<_> = made.await.iter().map(parts).collect();
    let tokens: Vec<String> = made.iter().map(|(_, token, _)| token.clone()).collect();
    for round in 0..3 {
        // The sessions before `first` have ended.
        let (first, living) = (round * 16, (round + 1) * 16);
        for token in &tokens[first..] {
            assert_eq!(outcome(&mut client, token).await, pb::Outcome::Active, "cached");
        }
        let ask = || {
            let (client, tokens) = (client.clone(), tokens.clone());
            tokio::spawn(async move { outcomes(&client, tokens).await })
        };
        // Some calls as it stops, some once it was silent for longer than the bound, some as it continues.
        let at_the_stop = ask();
        process.signal(Signal::STOP);
        for ended in join_all(made[first..living].iter().map(|(id, ..)| server.terminate(id))).await
        {
            ended.expect("ok");
        }
        let ended_at = Instant::now();
        wait::until(async || ended_at.elapsed() >= BOUND).await;
        let while_stopped = ask();
        wait::until(async || ended_at.elapsed() >= BOUND * 2).await;
        process.signal(Signal::CONT);
        let as_it_goes_on = ask();
        for outcome in &at_the_stop.await.expect("no panic")[living..] {
            assert_ne!(*outcome, Some(pb::Outcome::Inactive), "nobody ended it");
        }
        for outcomes in [while_stopped, as_it_goes_on] {
            for (number, outcome) in outcomes.await.expect("no panic").into_iter().enumerate() {
                let right =
                    if number < living { pb::Outcome::Inactive } else { pb::Outcome::Active };
                let is_right = outcome.is_none_or(|outcome| outcome == right);
                assert!(is_right, "session {number} in round {round}: {outcome:?}");
            }
        }
    }
    audit::check(&server.db).await;
}
