//! TerminateSessions while other transactions lock sessions, or have ended or changed them.

use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{new_session, parts};
use crate::harness::proxy::{Mode, Proxy};
use crate::harness::scrape::with_port;
use crate::harness::{audit, start, start_with, wait};
use crate::observations::session_of;
use crate::poison::{MEND, sessions, spoil, users_of};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_or_cannot_be_written_keeps_no_other_from_ending() {
    let server = start_with(with_port).await;
    sessions(&server).await;
    let refuse = "BEFORE UPDATE ON user_sessions FOR EACH ROW
        WHEN (old.user_id = 'refused' AND new.state <> old.state)";
    let stuck = spoil(&server, refuse).await;
    let filter = pb::SessionFilter { client_id: "web".to_owned(), ..Default::default() };
    let request = |request_id: &str| pb::TerminateSessionsRequest {
        filter: Some(filter.clone()),
        request_id: request_id.to_owned(),
        ..Default::default()
    };
    let ids = server.ids(2);
    for id in [&ids[0], ""] {
        let failed = server.terminate_many(request(id)).await.expect_err("one cannot be ended");
        assert_eq!(failed.code(), Code::Internal);
        assert_eq!(users_of(&server, "state <> 1").await, ["ada", "bob"]);
    }
    let pass = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RETURN new; END $$";
    server.db.connect().await.batch_execute(pass).await.expect("a function");
    let failed = server.terminate_many(request(&ids[0])).await.expect_err("one cannot be read");
    assert_eq!(failed.code(), Code::Internal);
    server.meddle(MEND).await;
    let done = server.terminate_many(request(&ids[0])).await.expect("all but one");
    assert_eq!((done.terminated_count, done.complete), (4, false), "one is held");
    let later = session_of(&server, "later").await.1;
    let again = server.terminate_many(request(&ids[0])).await.expect("all but one");
    assert_eq!((again.terminated_count, again.complete), (4, false));
    drop(stuck);
    for _ in 0..2 {
        let done = server.terminate_many(request(&ids[0])).await.expect("an end");
        assert_eq!((done.terminated_count, done.complete), (5, true));
    }
    assert_eq!(users_of(&server, "state = 1").await, ["later"]);
    assert_eq!(server.validate(&later).await.outcome(), pb::Outcome::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_device_keeps_no_other_session_from_ending() {
    let server = start().await;
    server.create_many("ada", 600).await;
    let on = |user: &str| pb::CreateSessionRequest {
        client: Some(pb::ClientContext {
            device: Some(pb::DeviceContext {
                identity: Some(pb::device_context::Identity::Fingerprint("locked".to_owned())),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..new_session(user)
    };
    let (id, ..) = parts(&server.try_create(on("ada")).await.expect("a session"));
    let of_it = format!(
        "SELECT 1 FROM devices JOIN user_sessions USING (tenant_id, user_id, device_id)
        WHERE session_id = '{id}' FOR UPDATE OF devices"
    );
    let holder = server.db.hold(&of_it).await;
    let filter = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    let all = pb::TerminateSessionsRequest { filter: Some(filter), ..Default::default() };
    let done = server.terminate_many(all.clone()).await.expect("all but one");
    assert_eq!((done.terminated_count, done.complete), (600, false));
    drop(holder);
    let rest = server.terminate_many(all).await.expect("the rest");
    assert_eq!((rest.terminated_count, rest.complete), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_ended_is_over_here_once_a_call_finds_it_so() {
    let server = start().await;
    let proxy = Proxy::before(&server.db.url);
    let deaf = server.replica_with(|settings| settings.database_url = proxy.url.clone()).await;
    let of_ada = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    let all = pb::TerminateSessionsRequest { filter: Some(of_ada), ..Default::default() };
    for mode in [Mode::Pass, Mode::MuteListeners] {
        let (id, token, _) = parts(&server.create("ada").await);
        assert_eq!(deaf.validate(&token).await.outcome(), pb::Outcome::Active, "it is cached");
        proxy.set(mode);
        server.terminate(&id).await.expect("an end");
        let found = deaf.terminate_many(all.clone()).await.expect("nothing is left");
        assert_eq!((found.terminated_count, found.complete), (0, true));
        assert_eq!(deaf.validate(&token).await.outcome(), pb::Outcome::Inactive, "{mode:?}");
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moves_while_a_network_is_ended_does_not_get_away() {
    let server = start().await;
    let from = |user: &str| {
        let client = pb::ClientContext { ip_address: "192.0.2.7".to_owned(), ..Default::default() };
        pb::CreateSessionRequest { client: Some(client), ..new_session(user) }
    };
    for user in ["moving", "staying"] {
        server.try_create(from(user)).await.expect("a session");
    }
    let holder = server.db.hold("SELECT 1 FROM user_sessions WHERE user_id = 'moving' FOR UPDATE");
    let holder = holder.await;
    let network = pb::SessionFilter { ip_prefix: "192.0.2.0/24".to_owned(), ..Default::default() };
    let all = pb::TerminateSessionsRequest { filter: Some(network), ..Default::default() };
    let moving = async {
        let staying = "SELECT count(*) FROM user_sessions WHERE state = 2";
        wait::until(async || server.db.count(staying).await == 1).await;
        let moves =
            "UPDATE user_sessions SET ip_address = '198.51.100.7' WHERE user_id = 'moving'; COMMIT";
        holder.batch_execute(moves).await.expect("a move");
    };
    let (done, ()) = futures_util::future::join(server.terminate_many(all), moving).await;
    let done = done.expect("an end");
    assert_eq!((done.terminated_count, done.complete), (2, true));
}
