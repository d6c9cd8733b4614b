//! Scopes that permit only some requests of a method.

use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use sessiond::grpc::pb::terminate_session_request::Target;
use tonic::{Code, Status};

use super::changes;
use crate::harness::callers::{As, authenticated, grant};
use crate::harness::calls::{new_session, parts, reason};
use crate::harness::devices::device_of;
use crate::harness::{TestServer, start_with};

type Client = SessionServiceClient<As>;

async fn client(server: &TestServer, role: Role) -> Client {
    server.sessions_as(&server.key(role.name(), &grant(role, &["default"])).await.text)
}

fn code<T>(answer: Result<T, Status>) -> Code {
    let Err(status) = answer else { return Code::Ok };
    if status.code() == Code::PermissionDenied {
        assert_eq!(reason(&status), "CALLER_NOT_PERMITTED");
    }
    status.code()
}

fn of(user: &str) -> Option<pb::SessionFilter> {
    Some(pb::SessionFilter { user_id: user.to_owned(), ..Default::default() })
}

fn terminate(target: Target, user: &str) -> pb::TerminateSessionRequest {
    pb::TerminateSessionRequest {
        target: Some(target),
        user_id: user.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_page_sees_and_ends_what_is_one_users_and_nothing_else() {
    let server = start_with(authenticated).await;
    let mut login = client(&server, Role::Login).await;
    let mut account = client(&server, Role::Account).await;
    let mut create = async |user: &str| {
        login.create_session(new_session(user)).await.expect("a session").into_inner()
    };
    let (ada, bob) = (create("ada").await, create("bob").await);
    let (id, of_bob) = (parts(&ada).0, parts(&bob).0);
    let device = device_of(&ada.session);

    let get = |session: &str, user: &str| pb::GetSessionRequest {
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        ..Default::default()
    };
    assert_eq!(code(account.get_session(get(&id, "ada")).await), Code::Ok);
    assert_eq!(code(account.get_session(get(&id, "")).await), Code::PermissionDenied);
    assert_eq!(code(account.get_session(get(&of_bob, "ada")).await), Code::NotFound);
    let list = |filter| pb::ListSessionsRequest { filter, ..Default::default() };
    let listed = account.list_sessions(list(of("ada"))).await.expect("a page").into_inner();
    assert_eq!(listed.sessions.len(), 1);
    for wide in [None, Some(pb::SessionFilter::default()), of("")] {
        assert_eq!(code(account.list_sessions(list(wide)).await), Code::PermissionDenied);
    }
    let devices =
        |user: &str| pb::ListDevicesRequest { user_id: user.to_owned(), ..Default::default() };
    assert_eq!(code(account.list_devices(devices("ada")).await), Code::Ok);
    assert_eq!(code(account.list_devices(devices("")).await), Code::PermissionDenied);

    let before = changes(&server).await;
    let by_id = |session: &str| Target::SessionId(session.to_owned());
    let many = |filter| pb::TerminateSessionsRequest { filter, ..Default::default() };
    assert_eq!(
        code(account.terminate_session(terminate(by_id(&id), "")).await),
        Code::PermissionDenied
    );
    let by_client = pb::SessionFilter { client_id: "web".to_owned(), ..Default::default() };
    for wide in [None, Some(by_client)] {
        assert_eq!(code(account.terminate_sessions(many(wide)).await), Code::PermissionDenied);
    }
    assert_eq!(changes(&server).await, before, "what is refused does nothing");
    // Another user's session gives the answer of a missing one.
    assert_eq!(code(account.terminate_session(terminate(by_id(&of_bob), "ada")).await), Code::Ok);
    assert_eq!(changes(&server).await, before);
    // With a token the user is ignored, so stating one does not bypass the check.
    for token in [Target::AccessToken(parts(&bob).1), Target::RefreshToken(parts(&bob).2)] {
        let refused = code(account.terminate_session(terminate(token, "ada")).await);
        assert_eq!(refused, Code::PermissionDenied);
    }
    assert_eq!(changes(&server).await, before);
    let revoke = pb::RevokeDeviceRequest {
        user_id: "ada".to_owned(),
        device_id: device,
        ..Default::default()
    };
    let revoked = account.revoke_device(revoke).await.expect("an end").into_inner();
    assert_eq!(revoked.terminated_count, 1);
    let ended = account.terminate_sessions(many(of("bob"))).await.expect("an end").into_inner();
    assert_eq!((ended.terminated_count, ended.complete), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_logs_out_who_shows_a_token_and_a_login_everywhere_else() {
    let server = start_with(authenticated).await;
    let mut login = client(&server, Role::Login).await;
    let mut gateway = client(&server, Role::Gateway).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let created = login.create_session(new_session("ada")).await.expect("a session");
        sessions.push(parts(&created.into_inner()));
    }
    let [(first, ..), (_, access, _), (_, _, refresh), (last, ..)] = &sessions[..] else {
        panic!("four")
    };
    let before = changes(&server).await;
    for user in ["", "ada"] {
        let by_id = terminate(Target::SessionId(first.clone()), user);
        assert_eq!(code(gateway.terminate_session(by_id).await), Code::PermissionDenied);
    }
    let list = pb::ListSessionsRequest { filter: of("ada"), ..Default::default() };
    assert_eq!(code(gateway.list_sessions(list.clone()).await), Code::PermissionDenied);
    assert_eq!(changes(&server).await, before);
    for token in [Target::AccessToken(access.clone()), Target::RefreshToken(refresh.clone())] {
        assert_eq!(code(gateway.terminate_session(terminate(token, "")).await), Code::Ok);
    }
    assert_eq!(changes(&server).await, before + 4, "two ends, each with its activity");

    let elsewhere = pb::TerminateSessionsRequest {
        filter: of("ada"),
        except_session_id: last.clone(),
        ..Default::default()
    };
    let ended = login.terminate_sessions(elsewhere).await.expect("an end").into_inner();
    assert_eq!((ended.terminated_count, ended.complete), (1, true));
    let listed = login.list_sessions(list).await.expect("a page").into_inner().sessions;
    let active = listed.iter().filter(|session| session.state() == pb::SessionState::Active);
    assert_eq!(active.map(|session| &session.session_id).collect::<Vec<_>>(), [last]);
    let all = pb::ListSessionsRequest::default();
    assert_eq!(code(login.list_sessions(all).await), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn security_tunes_rules_and_no_timeouts() {
    let server = start_with(authenticated).await;
    let mut security = client(&server, Role::Security).await;
    let off = pb::ImpossibleTravelRule { mode: pb::RuleMode::Off.into(), ..Default::default() };
    let detection = pb::DetectionPolicy { impossible_travel: Some(off), ..Default::default() };
    let rules = pb::Policy { detection: Some(detection), ..Default::default() };
    let ten = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let both = pb::Policy { idle_timeout: ten, ..rules.clone() };
    let set = |policy: &pb::Policy, paths: &[&str]| pb::UpdatePolicyRequest {
        policy: Some(policy.clone()),
        update_mask: (!paths.is_empty()).then(|| prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    let before = changes(&server).await;
    for (policy, paths) in [
        (&both, &[][..]),
        (&both, &["idle_timeout"]),
        (&both, &["detection", "idle_timeout"]),
        (&rules, &["*"]),
        (&both, &["detection.impossible_travel", "idle_timeout"]),
        (&rules, &["detections"]),
        (&rules, &["idle_timeout"]),
    ] {
        let refused = code(security.update_policy(set(policy, paths)).await);
        assert_eq!(refused, Code::PermissionDenied, "{paths:?}");
    }
    assert_eq!(changes(&server).await, before);
    for paths in [&[][..], &["detection.impossible_travel"]] {
        let policy = if paths.is_empty() { &rules } else { &both };
        let updated = security.update_policy(set(policy, paths)).await.expect("a change");
        let policy = updated.into_inner().policy.expect("a policy");
        assert_eq!(policy.idle_timeout, None, "{paths:?}");
    }
}
