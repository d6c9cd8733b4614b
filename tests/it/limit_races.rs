//! Every limit with every strategy: 64 creates of one user at once, at two replicas.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sessiond::grpc::pb;
use sessiond::model::conflict::LimitScope;
use sessiond::model::policy::OnLimit;
use sessiond::server::Settings;
use tonic::Status;

use crate::harness::calls::{metadata, new_session, parts, reason};
use crate::harness::cluster::Db;
use crate::harness::conflicts::{SCOPES, conflict, limit};
use crate::harness::{TestServer, audit, start_with};

const CREATES: usize = 64;
const LIMIT: usize = 5;

/// Counts active sessions in one snapshot after another until stopped; returns the highest count.
async fn most_at_once(db: Db, live: String, stop: Arc<AtomicBool>) -> i64 {
    let client = db.connect().await;
    let count = client.prepare(&live).await.expect("a statement");
    let mut most = 0;
    while !stop.load(Ordering::SeqCst) {
        most = most.max(client.query_one(&count, &[]).await.expect("a count").get(0));
    }
    most
}

/// A create of ada that the limit counts, on the device with this fingerprint. Client and type are equal if the limit
/// requires it, and otherwise differ from one create to the next.
fn counted(scope: LimitScope, i: usize, fingerprint: &str) -> pb::CreateSessionRequest {
    let client = if scope == LimitScope::Client { 0 } else { i % 3 };
    let kinds = [pb::DeviceType::Mobile, pb::DeviceType::Tv, pb::DeviceType::Web];
    let kind = kinds[if scope == LimitScope::DeviceType { 0 } else { i % 3 }];
    at(["app", "shop", "mail"][client], kind, fingerprint)
}

/// A create that the limit does not count; the limit of the user counts every session.
fn uncounted(scope: LimitScope) -> Option<pb::CreateSessionRequest> {
    match scope {
        LimitScope::User => None,
        LimitScope::Client => Some(at("other", pb::DeviceType::Mobile, "one")),
        LimitScope::DeviceType => Some(at("app", pb::DeviceType::Tv, "one")),
    }
}

fn at(client: &str, kind: pb::DeviceType, fingerprint: &str) -> pb::CreateSessionRequest {
    let identity = pb::device_context::Identity::Fingerprint(fingerprint.to_owned());
    let device =
        pb::DeviceContext { identity: Some(identity), r#type: kind.into(), ..Default::default() };
    let client_context = pb::ClientContext { device: Some(device), ..Default::default() };
    pb::CreateSessionRequest {
        client_id: client.to_owned(),
        client: Some(client_context),
        ..new_session("ada")
    }
}

fn live(scope: LimitScope) -> String {
    let counted = match scope {
        LimitScope::User => "",
        LimitScope::Client => "AND client_id = 'app'",
        LimitScope::DeviceType => "AND device_type = 2",
    };
    format!("SELECT count(*) FROM user_sessions WHERE user_id = 'ada' AND state = 1 {counted}")
}

/// Makes all creates at once, on one device, while a sampler checks the limit in every snapshot. `before` sessions of
/// the user are on another device.
async fn rush(
    scope: LimitScope,
    on_limit: OnLimit,
    before: usize,
) -> (TestServer, Vec<Result<pb::CreateSessionResponse, Status>>) {
    let change = |settings: &mut Settings| limit(settings, scope, LIMIT as u32, on_limit);
    let server = start_with(change).await;
    let replica = server.replica_with(change).await;
    let mut spared = vec![parts(&server.create("bob").await).0];
    for request in std::iter::repeat_n(uncounted(scope), LIMIT).flatten() {
        spared.push(parts(&server.try_create(request).await.expect("a session")).0);
    }
    for i in 0..before {
        let request = counted(scope, i, "other");
        spared.push(parts(&server.try_create(request).await.expect("a session")).0);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = tokio::spawn(most_at_once(server.db.clone(), live(scope), stop.clone()));
    let calls = (0..CREATES).map(|i| {
        let server = if i % 2 == 0 { &server } else { &replica };
        server.try_create(counted(scope, i, "one"))
    });
    let answers = join_all(calls).await;
    stop.store(true, Ordering::SeqCst);
    let most = sampler.await.expect("no panic");
    assert!(most <= LIMIT as i64, "{most} sessions lived at once: {scope:?} {on_limit:?}");
    assert_eq!(server.db.count(&live(scope)).await, LIMIT as i64);
    for id in spared {
        let session = server.get(&id).await.expect("a session");
        assert_eq!(session.state(), pb::SessionState::Active, "what does not count stays");
    }
    audit::check(&server.db).await;
    (server, answers)
}

/// Asserts that exactly as many creates succeed as the limit allows; returns the refusals, each with that reason.
async fn refusals(scope: LimitScope, on_limit: OnLimit, name: &str) -> Vec<Status> {
    let (server, answers) = rush(scope, on_limit, 0).await;
    let refused: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), CREATES - LIMIT);
    for status in &refused {
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
        assert_eq!(reason(status), name);
        assert_eq!(metadata(status, "scope").as_deref(), Some(scope.name()));
        assert_eq!(metadata(status, "limit").as_deref(), Some("5"));
        assert_eq!(metadata(status, "active").as_deref(), Some("5"));
    }
    assert_eq!(server.activities(3).await, 0, "nothing ends");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_creates_exactly_the_limit_is_admitted() {
    for scope in SCOPES {
        refusals(scope, OnLimit::Reject, "SESSION_LIMIT_REACHED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creates_beyond_the_limit_each_get_their_own_conflict() {
    for scope in SCOPES {
        let refused = refusals(scope, OnLimit::Ask, "SESSION_CONFLICT").await;
        let mut tokens = HashSet::new();
        for status in refused {
            let conflict = conflict(Err::<(), _>(status));
            assert_eq!((conflict.must_end_count, conflict.sessions.len()), (1, LIMIT));
            tokens.insert(conflict.conflict_token);
        }
        assert_eq!(tokens.len(), CREATES - LIMIT);
    }
}

/// Asserts that each create ends exactly the right session, and that each ended session is in one answer.
async fn ends_in_order(scope: LimitScope, on_limit: OnLimit, before: usize) {
    let (server, answers) = rush(scope, on_limit, before).await;
    let room = LIMIT - before;
    // The clock stands still, so with every strategy the order of the ids, which is that of creation, decides.
    let mut made: Vec<(String, Vec<String>)> = answers
        .into_iter()
        .map(|answer| {
            let answer = answer.expect("room is made");
            let ended = answer.terminated_sessions.into_iter().map(|ended| {
                assert_eq!(ended.end_reason(), pb::EndReason::Limit);
                ended.session_id
            });
            (answer.session.expect("a session").session_id, ended.collect())
        })
        .collect();
    made.sort();
    for (i, (_, ended)) in made.iter().enumerate() {
        let expected: Vec<&String> =
            i.checked_sub(room).map(|oldest| &made[oldest].0).into_iter().collect();
        let ended: Vec<&String> = ended.iter().collect();
        assert_eq!(ended, expected, "create number {i}, {scope:?} {on_limit:?}");
    }
    let all: HashSet<&String> = made.iter().flat_map(|(_, ended)| ended).collect();
    assert_eq!(all.len(), CREATES - room, "each victim is named once");
    assert_eq!(server.activities(3).await, (CREATES - room) as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creates_end_each_exactly_the_oldest_session() {
    for scope in SCOPES {
        ends_in_order(scope, OnLimit::TerminateOldest, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creates_end_each_exactly_the_least_recently_used_session() {
    for scope in SCOPES {
        ends_in_order(scope, OnLimit::TerminateLeastRecentlyUsed, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creates_end_each_exactly_one_session_on_their_own_device() {
    for scope in SCOPES {
        ends_in_order(scope, OnLimit::TerminateSameDevice, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_creates_go_by_use_and_not_by_age() {
    for scope in SCOPES {
        let on_limit = OnLimit::TerminateLeastRecentlyUsed;
        let change = |settings: &mut Settings| limit(settings, scope, LIMIT as u32, on_limit);
        let server = start_with(change).await;
        let replica = server.replica_with(change).await;
        let mut old = Vec::new();
        for i in 0..LIMIT {
            let created = server.try_create(counted(scope, i, "one")).await.expect("a session");
            old.push(parts(&created));
            server.advance(chrono::Duration::seconds(1));
        }
        let used = [3, 0, 4, 1, 2];
        for i in used {
            server.refresh(&old[i].2).await.expect("a use");
            server.advance(chrono::Duration::seconds(1));
        }
        let calls = (0..CREATES).map(|i| {
            let server = if i % 2 == 0 { &server } else { &replica };
            server.try_create(counted(scope, i, "one"))
        });
        let mut made: Vec<(String, Vec<String>)> = join_all(calls)
            .await
            .into_iter()
            .map(|answer| {
                let answer = answer.expect("room is made");
                let ended = answer.terminated_sessions.into_iter().map(|ended| ended.session_id);
                (answer.session.expect("a session").session_id, ended.collect())
            })
            .collect();
        made.sort();
        let ended: Vec<&String> = made.iter().flat_map(|(_, ended)| ended).collect();
        let order = used.iter().map(|i| &old[*i].0).chain(made.iter().map(|(id, _)| id));
        assert_eq!(ended, order.take(CREATES).collect::<Vec<_>>(), "{scope:?}");
        assert_eq!(server.db.count(&live(scope)).await, LIMIT as i64);
        audit::check(&server.db).await;
    }
}
