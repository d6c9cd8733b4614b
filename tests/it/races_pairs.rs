//! Every pair of changes of one session on two replicas: both return documented codes, and an end is final.

use std::collections::HashSet;

use futures_util::future::join;
use futures_util::{StreamExt, stream};
use sessiond::grpc::pb;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;
use tonic::Status;

use crate::harness::calls::refusal;
use crate::harness::mutations::{Answer, MUTATIONS, Mutation, SHORT, Subject, outcome};
use crate::harness::wait::until;
use crate::harness::{TestServer, audit, start_with};

/// How often each pair is raced.
const ROUNDS: usize = 3;
/// Concurrent pairs: as many as the connection pools of both servers handle in time on a busy machine.
const ABREAST: usize = 6;

fn one_session(settings: &mut Settings) {
    settings.policy.limits.user.max = 1;
    settings.policy.limits.user.on_limit = OnLimit::TerminateOldest;
    // So that a token still shows the state of its session at the end.
    settings.policy.access_token_ttl = chrono::Duration::hours(12);
}

/// The codes that `one` may return when raced with `other`.
fn documented(one: Mutation, other: Mutation) -> Vec<&'static str> {
    let erased = other == Mutation::Erase;
    let mut may = vec![if one == Mutation::Replay { "REFRESH_TOKEN_REUSED" } else { "OK" }];
    match one {
        Mutation::Refresh | Mutation::Replay => {
            may.extend(other.ends().then_some("SESSION_TERMINATED"));
            may.extend(erased.then_some("REFRESH_TOKEN_INVALID"));
            may.extend((other == Mutation::StepUp).then_some("REFRESH_TOKEN_SUPERSEDED"));
        }
        Mutation::StepUp | Mutation::UpdateSession => {
            may.extend(other.ends().then_some("SESSION_TERMINATED"));
            may.extend(erased.then_some("SESSION_NOT_FOUND"));
        }
        Mutation::UpdateDevice | Mutation::RevokeDevice => {
            may.extend(erased.then_some("DEVICE_NOT_FOUND"));
        }
        Mutation::ResolveAlert => may.extend(erased.then_some("ALERT_NOT_FOUND")),
        Mutation::Record => may.extend(erased.then_some("SESSION_NOT_FOUND")),
        Mutation::Create
        | Mutation::Terminate
        | Mutation::TerminateMany
        | Mutation::ShortenPolicy
        | Mutation::Erase => {}
    }
    may
}

/// Whether this answer to `one`, raced with `other`, means that the session has ended for good.
fn acknowledged_end(one: Mutation, answered: &str, other: Mutation) -> bool {
    match one {
        // A step-up restarts the deadlines, so the shorter ones count from it.
        Mutation::ShortenPolicy => answered == "OK" && other != Mutation::StepUp,
        Mutation::Replay => answered == "REFRESH_TOKEN_REUSED",
        _ => one.ends() && answered == "OK",
    }
}

async fn assert_ended(servers: [&TestServer; 2], subject: &Subject, tokens: &[&str], shown: &str) {
    for server in servers {
        let judged = server.validate_now(&subject.access).await;
        assert_eq!(judged.outcome(), pb::Outcome::Inactive, "{shown}");
        for token in tokens {
            let refused = refusal(server.refresh(token).await);
            let known = ["SESSION_TERMINATED", "REFRESH_TOKEN_INVALID"];
            assert!(known.contains(&refused.as_str()), "{shown}: {refused}");
        }
    }
}

/// Races every pair whose first change is in this range.
async fn race(first: std::ops::Range<usize>) {
    let server = start_with(one_session).await;
    let replica = server.replica_with(one_session).await;
    let pairs = first.flat_map(|at| {
        let met = MUTATIONS[at..].iter().map(move |other| (MUTATIONS[at], *other));
        met.flat_map(|(one, other)| (0..ROUNDS).map(move |round| (one, other, round)))
    });
    let made = stream::iter(pairs).map(async |(one, other, round)| {
        let user = format!("{one:?}-{other:?}-{round}");
        (one, other, round, Subject::create(&server.channel(), &user).await)
    });
    let made: Vec<_> = made.buffer_unordered(ABREAST).collect().await;
    server.advance(SHORT * 2);

    let races = made.iter().map(async |(one, other, round, subject)| {
        let [here, there] = if round % 2 == 0 { [&server, &replica] } else { [&replica, &server] };
        let (here_channel, there_channel) = (here.channel(), there.channel());
        let racing =
            join(one.make(&here_channel, subject, ""), other.make(&there_channel, subject, ""));
        let answers: [Result<Answer, Status>; 2] = racing.await.into();
        let outcomes = [outcome(&answers[0]), outcome(&answers[1])];
        let shown = format!("{one:?} {} and {other:?} {}: {answers:?}", outcomes[0], outcomes[1]);
        assert!(documented(*one, *other).contains(&outcomes[0].as_str()), "{shown}");
        assert!(documented(*other, *one).contains(&outcomes[1].as_str()), "{shown}");
        if [one, other] == [&Mutation::Refresh; 2] {
            let [first, second] = answers.each_ref().map(|answer| answer.as_ref().ok());
            assert_eq!(first, second, "one successor");
        }

        let ended = answers.each_ref().map(|answer| answer.as_ref().is_ok_and(|a| a.ended > 0));
        let ends = [
            (one, other, here, &outcomes[0], ended[0]),
            (other, one, there, &outcomes[1], ended[1]),
        ];
        for (one, other, by, code, ended_it) in ends {
            if acknowledged_end(*one, code, *other) {
                // At once if this call ended the session; within the bound if the other one did.
                let judged = async || by.validate(&subject.access).await.outcome();
                match ended_it {
                    true => assert_eq!(judged().await, pb::Outcome::Inactive, "{shown}"),
                    false => until(async || judged().await == pb::Outcome::Inactive).await,
                }
                let mut tokens = vec![subject.tokens[2].as_str()];
                let rotated = [one, other]
                    .map(|change| matches!(change, Mutation::Refresh | Mutation::StepUp));
                let issued = answers.iter().flatten().zip(rotated);
                tokens.extend(issued.filter_map(|(answer, rotated)| {
                    answer.refresh_token.as_deref().filter(|_| rotated)
                }));
                assert_ended([&server, &replica], subject, &tokens, &shown).await;
            }
        }
        let active = server.list(&subject.user).await;
        let active = active.iter().filter(|session| session.state() == pb::SessionState::Active);
        assert!(active.count() <= 1, "{shown}");
        [(*one, outcomes[0].clone()), (*other, outcomes[1].clone())]
    });
    let outcomes = stream::iter(races).buffer_unordered(ABREAST).collect::<Vec<_>>().await;
    let outcomes: HashSet<_> = outcomes.into_iter().flatten().collect();
    for (change, _) in &outcomes {
        let main = documented(*change, *change)[0];
        assert!(outcomes.contains(&(*change, main.to_owned())), "{change:?} was never {main}");
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_or_refresh_beside_each_change_answers_as_documented() {
    race(0..2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_or_step_up_beside_each_change_answers_as_documented() {
    race(2..4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_or_revoked_device_beside_each_change_answers_as_documented() {
    race(4..7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_a_policy_an_erasure_and_reports_beside_each_other_answer_as_documented() {
    race(7..MUTATIONS.len()).await;
}
