//! Streams end within the bound when their caller loses its permission.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use sessiond::caller::manage::Grant;
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::server::Settings;
use tonic::{Code, Status, Streaming};

use crate::harness::callers::{authenticated, grant};
use crate::harness::calls::reason;
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::{TestServer, start_with, wait};

/// Long enough for a machine that runs other tests.
const BOUND: Duration = Duration::from_secs(3);

fn bounded(settings: &mut Settings) {
    authenticated(settings);
    settings.staleness_bound = BOUND;
}

/// One stream of each kind.
struct Open {
    sessions: Streaming<pb::WatchSessionsResponse>,
    alerts: Streaming<pb::WatchAlertsResponse>,
    revocations: Streaming<pb::WatchRevocationsResponse>,
    answers: Streaming<pb::ValidateSessionsResponse>,
    /// Keeps the request stream open.
    questions: tokio::sync::mpsc::UnboundedSender<pb::ValidateSessionsRequest>,
}

/// Opens all four, past their first message.
async fn open(server: &TestServer, key: &str) -> Open {
    let (mut sessions, mut alerts) = (server.sessions_as(key), server.alerts_as(key));
    let (questions, asked) = tokio::sync::mpsc::unbounded_channel();
    let asked = futures_util::stream::unfold(asked, |mut asked| async {
        asked.recv().await.map(|question| (question, asked))
    });
    let mut open = Open {
        sessions: sessions
            .watch_sessions(pb::WatchSessionsRequest::default())
            .await
            .expect("a watch")
            .into_inner(),
        alerts: alerts
            .watch_alerts(pb::WatchAlertsRequest::default())
            .await
            .expect("a watch")
            .into_inner(),
        revocations: sessions
            .watch_revocations(pb::WatchRevocationsRequest::default())
            .await
            .expect("a watch")
            .into_inner(),
        answers: sessions.validate_sessions(asked).await.expect("a stream").into_inner(),
        questions,
    };
    open.ask();
    open.sessions.message().await.expect("a heartbeat").expect("a message");
    open.alerts.message().await.expect("a heartbeat").expect("a message");
    open.revocations.message().await.expect("a snapshot").expect("a message");
    open.answers.message().await.expect("an answer").expect("a message");
    open
}

/// The status with which a stream ends, and the time of its end.
async fn end<T>(mut stream: Streaming<T>) -> (Status, Instant) {
    let ending = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream ends with a status"),
                Err(status) => return (status, Instant::now()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ending).await.expect("an end")
}

impl Open {
    fn ask(&self) {
        let request =
            pb::ValidateSessionRequest { access_token: "x".to_owned(), ..Default::default() };
        let question =
            pb::ValidateSessionsRequest { correlation_id: "1".to_owned(), request: Some(request) };
        self.questions.send(question).expect("an open stream");
    }

    /// Asserts that all four end with this reason, within the bound after `since`.
    async fn assert_ends(self, since: Instant, code: Code, name: &str) {
        let ends = [
            end(self.sessions).boxed(),
            end(self.alerts).boxed(),
            end(self.revocations).boxed(),
            end(self.answers).boxed(),
        ];
        for (number, (status, at)) in join_all(ends).await.into_iter().enumerate() {
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (code, name),
                "{number}: {status:?}"
            );
            let took = at.saturating_duration_since(since);
            assert!(took < BOUND, "{number}: {took:?}");
        }
        drop(self.questions);
    }

    /// Asserts that all four are open.
    async fn assert_open(&mut self) {
        self.ask();
        self.sessions.message().await.expect("a heartbeat").expect("a message");
        self.alerts.message().await.expect("a heartbeat").expect("a message");
        self.answers.message().await.expect("an answer").expect("a message");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_key_ends_its_streams_on_every_replica_and_no_others() {
    let server = start_with(bounded).await;
    let replica = server.replica_with(bounded).await;
    let watcher = grant(Role::Admin, &["default"]);
    let key = server.key("watcher", &watcher).await;
    let manage = server.manage();
    let day = Duration::from_secs(86_400);
    let other = manage.create_key("watcher", day, None).await.expect("a second key");
    replica.until_known(&key).await;
    replica.until_known(&other).await;
    let streams = [open(&server, &key.text).await, open(&replica, &key.text).await];
    let mut others = open(&replica, &other.text).await;
    manage.revoke_key(&key.id).await.expect("a key to revoke");
    let since = Instant::now();
    let ends = streams
        .map(|streams| streams.assert_ends(since, Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
    join_all(ends).await;
    others.assert_open().await;
    manage.remove_principal("watcher").await.expect("a principal to remove");
    others.assert_ends(Instant::now(), Code::Unauthenticated, "CALLER_UNAUTHENTICATED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_expiry_of_a_key_ends_its_streams() {
    let server = start_with(bounded).await;
    let key = server.key("watcher", &grant(Role::Admin, &["default"])).await.text;
    let mut streams = open(&server, &key).await;
    server.advance(chrono::Duration::hours(23));
    streams.assert_open().await;
    server.advance(chrono::Duration::hours(1));
    streams.assert_ends(Instant::now(), Code::Unauthenticated, "CALLER_UNAUTHENTICATED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_principal_ends_what_it_may_not_do_any_more() {
    let server = start_with(bounded).await;
    let admin = grant(Role::Admin, &["default"]);
    let key = server.key("watcher", &admin).await.text;
    let manage = server.manage();
    let mut streams = open(&server, &key).await;
    // A further scope ends no stream.
    let more =
        Grant { scopes: vec![sessiond::model::caller::scope::Scope::KeyRead], ..admin.clone() };
    manage.set_principal("watcher", &more).await.expect("a change");
    let since = Instant::now();
    while since.elapsed() < BOUND {
        streams.assert_open().await;
    }
    manage.set_principal("watcher", &grant(Role::Login, &["default"])).await.expect("a change");
    streams.assert_ends(Instant::now(), Code::PermissionDenied, "CALLER_NOT_PERMITTED").await;

    manage.set_principal("watcher", &admin).await.expect("a change");
    wait::until(async || {
        let request = pb::WatchSessionsRequest::default();
        server.sessions_as(&key).watch_sessions(request).await.is_ok()
    })
    .await;
    let streams = open(&server, &key).await;
    manage.set_principal("watcher", &grant(Role::Admin, &["other"])).await.expect("a change");
    streams.assert_ends(Instant::now(), Code::PermissionDenied, "CALLER_NOT_PERMITTED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_within_the_bound_without_the_feed_of_changes_too() {
    let server = start_with(bounded).await;
    let proxy = Proxy::before(&server.db.url);
    let replica = server.replica_with(|settings| {
        bounded(settings);
        settings.database_url = proxy.url.clone();
    });
    let replica = replica.await;
    let key = server.key("watcher", &grant(Role::Admin, &["default"])).await;
    for mode in [Mode::MuteListeners, Mode::CutListeners] {
        let manage = server.manage();
        let day = Duration::from_secs(86_400);
        let key = manage.create_key("watcher", day, None).await.expect("a key");
        replica.until_known(&key).await;
        let streams = open(&replica, &key.text).await;
        proxy.set(mode);
        manage.revoke_key(&key.id).await.expect("a key to revoke");
        let since = Instant::now();
        // A stream whose caller cannot be checked ends as well, if that happens first.
        let Open { sessions, alerts, answers, .. } = streams;
        for (status, at) in [end(sessions).await, end(alerts).await, end(answers).await] {
            assert_eq!(status.code(), Code::Unauthenticated, "{mode:?} {status:?}");
            let took = at.saturating_duration_since(since);
            assert!(took < BOUND, "{mode:?} {took:?}");
        }
        proxy.set(Mode::Pass);
    }
    drop(key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_caller_cannot_be_checked_any_more_ends_after_a_while() {
    let server = start_with(bounded).await;
    let proxy = Proxy::before(&server.db.url);
    let alone = server.replica_with(|settings| {
        bounded(settings);
        settings.database_url = proxy.url.clone();
    });
    let alone = alone.await;
    let key = server.key("watcher", &grant(Role::Admin, &["default"])).await;
    alone.until_known(&key).await;
    let streams = open(&alone, &key.text).await;
    proxy.set(Mode::BlackHole);
    let (status, _) = end(streams.answers).await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "DATABASE_UNAVAILABLE")
    );
    proxy.set(Mode::Pass);
}
