//! Every change whose COMMIT is not acknowledged: the outcome is unknown, and the caller's retry makes it one change.

use std::collections::BTreeMap;

use sessiond::grpc::pb;

use crate::harness::calls::{assert_unavailable, refusal, successor};
use crate::harness::cluster::Db;
use crate::harness::mutations::{MUTATIONS, Mutation, SHORT, Subject, outcome};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{TestServer, audit, clock, start_on};

const LONG: std::time::Duration = std::time::Duration::from_secs(3600);

/// How many activities of each kind there are.
async fn trail(server: &TestServer) -> BTreeMap<i16, i64> {
    let sql = "SELECT kind, count(*) FROM session_activities GROUP BY kind";
    let rows = server.db.connect().await.query(sql, &[]).await.expect("a query");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The kinds of activity that a change of one session writes, one row each.
fn leaves(change: Mutation) -> &'static [i16] {
    match change {
        Mutation::Create => &[1],
        Mutation::Refresh => &[2],
        Mutation::Terminate | Mutation::TerminateMany => &[3],
        // It raises an alert as well.
        Mutation::Replay => &[3, 13],
        Mutation::StepUp => &[7],
        Mutation::UpdateSession => &[8],
        Mutation::UpdateDevice => &[9],
        Mutation::RevokeDevice => &[3, 10],
        Mutation::ShortenPolicy => &[3, 11],
        Mutation::Erase => &[12],
        Mutation::Record => &[20],
        Mutation::ResolveAlert => &[3, 6],
    }
}

async fn assert_one_change(server: &TestServer, change: Mutation, before: &BTreeMap<i16, i64>) {
    let after = trail(server).await;
    let mut expected = before.clone();
    for kind in leaves(change) {
        *expected.entry(*kind).or_default() += 1;
    }
    if change == Mutation::Erase {
        // All other rows of the user were erased too.
        assert_eq!(after.get(&12), expected.get(&12), "{change:?}");
    } else {
        assert_eq!(after, expected, "{change:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_lost_acknowledgement_makes_one_change_and_gets_its_answer() {
    let db = Db::fresh().await;
    let proxy = Proxy::before(&db.url);
    let url = proxy.url.clone();
    let server = start_on(db, clock(), |settings| {
        settings.database_url = url;
        settings.policy.access_token_ttl = SHORT * 10;
        settings.intervals.sweep = LONG;
        settings.intervals.flush = LONG;
        settings.intervals.apply = LONG;
    })
    .await;
    for change in MUTATIONS {
        let subject = Subject::create(&server.channel(), &format!("{change:?}")).await;
        server.advance(SHORT * 2);
        let (before, id) = (trail(&server).await, server.ids(1).remove(0));
        let call = async || change.make(&server.channel(), &subject, &id).await;

        proxy.set(Mode::CutCommits);
        assert_unavailable(&call().await.expect_err("its acknowledgement was lost"));
        // A change of several commits gets one commit further with each retry.
        for _ in 0..3 {
            if let Err(status) = call().await
                && outcome(&Err(status.clone())) != "SESSION_TERMINATED"
            {
                assert_unavailable(&status);
            }
        }
        proxy.set(Mode::Pass);
        let (done, again) = (call().await, call().await);
        let expected = if change == Mutation::Replay { "SESSION_TERMINATED" } else { "OK" };
        assert_eq!(outcome(&done), expected, "{change:?}: {done:?}");
        let texts = [&done, &again].map(|answer| answer.as_ref().ok().map(|answer| &answer.text));
        assert_eq!(texts[0], texts[1], "{change:?}");
        assert_one_change(&server, change, &before).await;

        let active = server.validate_now(&subject.access).await.outcome() == pb::Outcome::Active;
        let superseded = change == Mutation::StepUp;
        let ended = change.ends() && change != Mutation::Create;
        assert_eq!(active, !ended && !superseded, "{change:?}");
        let Ok(done) = done else { continue };
        if matches!(change, Mutation::RevokeDevice | Mutation::TerminateMany) {
            assert_eq!(done.ended, 1, "{change:?} counts on");
        }
        if let Some(token) = done.refresh_token {
            successor(server.refresh(&token).await);
        }
        if ended {
            refusal(server.refresh(&subject.tokens[2]).await);
        }
    }
    let reuse = "SELECT count(*) FROM security_alerts WHERE rule_id = 'refresh_reuse'";
    assert_eq!(server.db.count(reuse).await, 1);
    audit::check(&server.db).await;
}
