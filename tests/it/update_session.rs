//! UpdateSession: metadata and the name of the device, of active sessions only.

use std::collections::BTreeMap;

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{metadata, parts, reason, violations};
use crate::harness::creates::text;
use crate::harness::devices::{mask, on, set_session};
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, audit, start};

fn of(session: &str) -> pb::Session {
    pb::Session { session_id: session.to_owned(), ..Default::default() }
}

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The numbers of activities of updated sessions and of updated devices.
async fn updates(server: &TestServer) -> (i64, i64) {
    (server.activities(8).await, server.activities(9).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_replaced_as_a_whole() {
    let server = start().await;
    let (created, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let session = created.session.clone().expect("a session");
    let request = |pairs: &[(&str, &str)]| {
        set_session(pb::Session {
            metadata: data(pairs),
            user_id: "ada".to_owned(),
            ..of(&session.session_id)
        })
    };
    for pairs in [&[("a", "1"), ("b", "2")][..], &[("b", "3")]] {
        let updated = server.update_session(request(pairs)).await.expect("a session");
        assert_eq!(updated.metadata, data(pairs));
        assert_ne!(updated.etag, session.etag);
        assert_eq!(server.get(&session.session_id).await.expect("a session"), updated);
    }
    let empty = pb::UpdateSessionRequest { update_mask: mask(["metadata"]), ..request(&[]) };
    let updated = server.update_session(empty.clone()).await.expect("a session");
    assert_eq!(updated, session, "as it was created");
    server.update_session(empty).await.expect("the same again");
    assert_eq!(updates(&server).await, (3, 0), "one for each change");
    let (_, access, refresh) = parts(&created);
    assert_eq!(server.validate(&access).await.outcome(), pb::Outcome::Active);
    server.refresh(&refresh).await.expect("the chain goes on");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_name_is_set_on_the_device_and_shows_in_all_its_sessions() {
    let server = start().await;
    let (first, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let (second, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let (first, second) = (parts(&first).0, parts(&second).0);
    let name = |session: &pb::Session| session.device.clone().expect("a device").display_name;
    let request = pb::UpdateSessionRequest {
        update_mask: mask(["device.display_name"]),
        ..set_session(pb::Session {
            device: Some(pb::Device { display_name: text(128), ..Default::default() }),
            metadata: data(&[("a", "1")]),
            ..of(&first)
        })
    };
    let before = server.get(&second).await.expect("a session");
    let updated = server.update_session(request.clone()).await.expect("a session");
    assert_eq!((name(&updated), updated.metadata.len()), (text(128), 0));
    assert_eq!(server.get(&first).await.expect("a session"), updated);
    let other = server.get(&second).await.expect("a session");
    assert_eq!(name(&other), text(128));
    assert_ne!(other.etag, before.etag);
    assert_eq!(server.device("ada", &id).await.display_name, text(128));
    assert_eq!(updates(&server).await, (1, 1));
    server.update_session(request).await.expect("the same again");
    assert_eq!(updates(&server).await, (1, 1));

    let both = pb::UpdateSessionRequest {
        update_mask: mask(["metadata", "device.display_name"]),
        ..set_session(pb::Session { metadata: data(&[("b", "2")]), ..of(&second) })
    };
    let updated = server.update_session(both).await.expect("a session");
    assert_eq!((name(&updated), updated.metadata), (String::new(), data(&[("b", "2")])));
    assert_eq!(name(&server.get(&first).await.expect("a session")), "");
    assert_eq!(server.device("ada", &id).await.display_name, "");
    assert_eq!(updates(&server).await, (2, 2));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_active_session_can_be_updated() {
    let server = start().await;
    let (ended, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let (late, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let (ended, late) = (parts(&ended).0, parts(&late).0);
    server.terminate(&ended).await.expect("ok");
    server.advance(Duration::hours(1));
    let expected =
        [(&ended, "SESSION_TERMINATED", "LOGOUT"), (&late, "SESSION_EXPIRED", "IDLE_TIMEOUT")];
    for (session, code, end) in expected {
        let request = set_session(pb::Session {
            metadata: data(&[("a", "1")]),
            device: Some(pb::Device { display_name: "x".to_owned(), ..Default::default() }),
            ..of(session)
        });
        let refusal = server.update_session(request).await.expect_err("a refusal");
        assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::FailedPrecondition, code));
        assert_eq!(metadata(&refusal, "end_reason").as_deref(), Some(end));
        assert_eq!(server.get(session).await.expect("a session").metadata, BTreeMap::new());
    }
    assert_eq!(server.device("ada", &id).await.display_name, "");
    assert_eq!(updates(&server).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_limit_is_told_at_once() {
    let server = start().await;
    let (created, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let session = parts(&created).0;
    let full: BTreeMap<String, String> =
        (0..32).map(|at| (format!("k{at}"), "v".to_owned())).collect();
    let request = |metadata| set_session(pb::Session { metadata, ..of(&session) });
    let kept = server.update_session(request(full.clone())).await.expect("32 entries");
    assert_eq!(kept.metadata, full);
    let mut over = full;
    over.insert("one more".replace(' ', "-"), String::new());
    let cases = [
        (request(over), vec!["session.metadata"]),
        (request(data(&[("no key", "")])), vec!["session.metadata"]),
        (request(data(&[("key", &text(513))])), vec!["session.metadata[key]"]),
        (
            request(data(&[("no key", &text(513)), ("key", &text(513))])),
            vec!["session.metadata[key]", "session.metadata", "session.metadata"],
        ),
        (
            pb::UpdateSessionRequest { update_mask: mask(["x"]), ..Default::default() },
            vec!["update_mask", "session"],
        ),
        (set_session(of(&session)), vec!["update_mask"]),
        (
            pb::UpdateSessionRequest {
                update_mask: mask(["session_id"]),
                ..set_session(of(&session))
            },
            vec!["update_mask"],
        ),
        (
            pb::UpdateSessionRequest {
                request_id: "x".to_owned(),
                ..set_session(pb::Session {
                    tenant_id: "a b".to_owned(),
                    user_id: text(129),
                    device: Some(pb::Device { display_name: text(129), ..Default::default() }),
                    ..of("x")
                })
            },
            vec![
                "request_id",
                "session.tenant_id",
                "session.user_id",
                "session.session_id",
                "session.device.display_name",
            ],
        ),
    ];
    for (request, fields) in cases {
        let refusal = server.update_session(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), fields);
    }
    assert_eq!(updates(&server).await, (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn etag_request_id_and_tenant_are_respected() {
    let server = start().await;
    let (created, _) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let session = created.session.expect("a session");
    let request = |value: &str, request_id: &str| pb::UpdateSessionRequest {
        request_id: request_id.to_owned(),
        ..set_session(pb::Session {
            metadata: data(&[("a", value)]),
            etag: session.etag.clone(),
            ..of(&session.session_id)
        })
    };
    let first = server.update_session(request("1", NOBODY)).await.expect("a session");
    let stale = server.update_session(request("2", "")).await.expect_err("a refusal");
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(server.update_session(request("1", NOBODY)).await.expect("again"), first);
    let other = server.update_session(request("2", NOBODY)).await.expect_err("another body");
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));

    let plain = pb::Session { metadata: data(&[("a", "3")]), ..of(&session.session_id) };
    let foreign = [
        pb::Session { tenant_id: "acme".to_owned(), ..plain.clone() },
        pb::Session { user_id: "bob".to_owned(), ..plain.clone() },
        pb::Session { session_id: NOBODY.to_owned(), ..plain },
    ];
    for session in foreign {
        let refusal = server.update_session(set_session(session)).await.expect_err("a refusal");
        assert_eq!(
            (refusal.code(), reason(&refusal).as_str()),
            (Code::NotFound, "SESSION_NOT_FOUND")
        );
    }
    assert_eq!(server.get(&session.session_id).await.expect("a session"), first);
    assert_eq!(updates(&server).await, (1, 0));
}
