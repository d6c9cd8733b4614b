//! WatchSessions: each committed event once, in order, from any cursor.

use chrono::Duration;
use sessiond::cache::{progress::RevocationProgress, table::TableVersions};
use sessiond::grpc::pb;
use sessiond::model::feed::Position;
use sessiond::store::pool::Database;
use sessiond::token::cursor::Cursors;
use sessiond::token::keys::KeyCache;
use sessiond::token::seal::MasterKey;
use tonic::Code;

use crate::harness::calls::{new_session, parts, reason, successor, violations};
use crate::harness::devices::set_session;
use crate::harness::stepping::second_factor;
use crate::harness::watch::{INSERT, insert};
use crate::harness::{MASTER_KEY, TestServer, audit, start, start_with};

type Kind = pb::SessionEventKind;

fn filtered(filter: pb::SessionEventFilter) -> pb::WatchSessionsRequest {
    pb::WatchSessionsRequest { filter: Some(filter), ..Default::default() }
}

fn from(cursor: &str) -> pb::WatchSessionsRequest {
    pb::WatchSessionsRequest { cursor: cursor.to_owned(), ..Default::default() }
}

async fn rename(server: &TestServer, session_id: &str) {
    let update = set_session(pb::Session {
        session_id: session_id.to_owned(),
        device: Some(pb::Device { display_name: "Kitchen".to_owned(), ..Default::default() }),
        ..Default::default()
    });
    server.sessions().update_session(update).await.expect("ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_session_is_streamed_as_it_happens() {
    let server = start().await;
    server.create("bob").await;
    let mut watcher = server.watch("").await;
    watcher.assert_quiet().await;
    let client = pb::ClientContext {
        ip_address: "192.0.2.7".to_owned(),
        user_agent: "curl/8.5.0".to_owned(),
        ..Default::default()
    };
    let request = pb::CreateSessionRequest { client: Some(client), ..new_session("ada") };
    let made = server.try_create(request).await.expect("a session");
    let (id, _, refresh) = parts(&made);
    server.advance(Duration::seconds(1));
    successor(server.refresh(&refresh).await);
    server.advance(Duration::seconds(1));
    server.reauthenticate(second_factor(&id)).await.expect("ok");
    rename(&server, &id).await;
    server.terminate(&id).await.expect("ok");
    let events = watcher.events(5).await;
    let kinds: Vec<Kind> = events.iter().map(pb::SessionEvent::kind).collect();
    let all =
        [Kind::Created, Kind::Refreshed, Kind::Reauthenticated, Kind::Updated, Kind::Terminated];
    assert_eq!(kinds, all);
    let generations: Vec<u32> = events.iter().map(|event| event.refresh_generation).collect();
    assert_eq!(generations, [1, 2, 3, 3, 3]);
    let session = made.session.expect("a session");
    for event in &events {
        assert_eq!((event.session_id.as_str(), event.user_id.as_str()), (id.as_str(), "ada"));
        assert_eq!((event.tenant_id.as_str(), event.client_id.as_str()), ("default", "web"));
        assert_eq!(event.device_id, session.device.as_ref().expect("a device").device_id);
        assert_eq!(event.device_type(), pb::DeviceType::Api);
        assert_eq!(event.ip_address, "192.0.2.7");
        assert_eq!(event.user_agent, "curl/8.5.0");
        assert_eq!(event.principal, "anonymous");
    }
    assert_eq!(events[0].occur_time, session.create_time);
    assert_eq!(events[4].end_reason(), pb::EndReason::Logout);
    server.create("ada").await;
    server.advance(Duration::days(2));
    let ended: Vec<Kind> = watcher.events(3).await.iter().map(pb::SessionEvent::kind).collect();
    assert_eq!(ended, [Kind::Created, Kind::Expired, Kind::Expired]);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_its_filter_and_tenant_allow() {
    let server = start().await;
    let (id, ..) = parts(&server.create("ada").await);
    let filter = |user: &str, session: &str, kinds: Vec<i32>| {
        let filter = pb::SessionEventFilter {
            user_id: user.to_owned(),
            session_id: session.to_owned(),
            kinds,
        };
        server.watch_sessions(filtered(filter))
    };
    let mut of_bob = filter("bob", "", vec![]).await.expect("a watch");
    let mut of_session = filter("", &id, vec![]).await.expect("a watch");
    let ends = vec![Kind::Terminated.into(), Kind::Expired.into()];
    let mut of_ends = filter("", "", ends).await.expect("a watch");
    let other = pb::WatchSessionsRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    let mut of_acme = server.watch_sessions(other).await.expect("a watch");
    let all = pb::WatchSessionsRequest { tenant_id: "*".to_owned(), ..Default::default() };
    let mut of_all = server.watch_sessions(all).await.expect("a watch");
    server.create("ada").await;
    let (bobs, ..) = parts(&server.create("bob").await);
    server.terminate(&bobs).await.expect("ok");
    server.terminate(&id).await.expect("ok");
    let acme = pb::CreateSessionRequest { tenant_id: "acme".to_owned(), ..new_session("ada") };
    server.try_create(acme).await.expect("a session");
    let ids_and_kinds = |events: Vec<pb::SessionEvent>| {
        events.into_iter().map(|e| (e.session_id.clone(), e.kind())).collect::<Vec<_>>()
    };
    let bob = [(bobs.clone(), Kind::Created), (bobs.clone(), Kind::Terminated)];
    assert_eq!(ids_and_kinds(of_bob.events(2).await), bob);
    assert_eq!(ids_and_kinds(of_session.events(1).await), [(id.clone(), Kind::Terminated)]);
    assert_eq!(
        ids_and_kinds(of_ends.events(2).await),
        [(bobs, Kind::Terminated), (id, Kind::Terminated)]
    );
    assert_eq!(of_acme.events(1).await[0].tenant_id, "acme");
    let mut tenants: Vec<String> =
        of_all.events(5).await.into_iter().map(|event| event.tenant_id).collect();
    tenants.sort_unstable();
    assert_eq!(tenants, ["acme", "default", "default", "default", "default"]);
    for watcher in [&mut of_bob, &mut of_session, &mut of_ends, &mut of_acme, &mut of_all] {
        watcher.assert_quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_old_and_new_receive_a_transaction_that_commits_late() {
    let server = start().await;
    let mut watcher = server.watch("").await;
    let mut slow = server.db.connect().await;
    let held = slow.transaction().await.expect("a transaction");
    held.execute(INSERT, &[&"late", &1, &2]).await.expect("rows");
    server.create("ada").await;
    assert_eq!(watcher.events(1).await[0].user_id, "ada", "nobody waits for it");
    watcher.assert_quiet().await;
    // Begins after the rows were written, and before they are committed.
    let mut newer = server.watch("").await;
    let (of_event, mut of_heartbeat) = (watcher.cursor.clone(), server.watch("").await);
    of_heartbeat.assert_quiet().await;
    let of_heartbeat = of_heartbeat.cursor;
    held.commit().await.expect("a late commit");
    server.create("bob").await;
    for watcher in [
        &mut watcher,
        &mut newer,
        &mut server.watch(&of_event).await,
        &mut server.watch(&of_heartbeat).await,
    ] {
        let mut users: Vec<_> =
            watcher.events(3).await.into_iter().map(|event| event.user_id).collect();
        users.sort();
        assert_eq!(users, ["bob", "late", "late"]);
        watcher.assert_quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_any_message_goes_on_with_what_follows_it_on_any_replica() {
    let server = start().await;
    let replica = server.replica().await;
    let writer = server.db.connect().await;
    let mut watcher = server.watch("").await;
    insert(&writer, "ada", 1, 7).await;
    let mut cursors = vec![watcher.cursor.clone()];
    for generation in 1..=7 {
        let event = watcher.event().await.expect("an event");
        assert_eq!(event.refresh_generation, generation);
        cursors.push(watcher.cursor.clone());
    }
    insert(&writer, "ada", 8, 1).await;
    for (seen, cursor) in cursors.iter().enumerate() {
        for server in [&server, &replica] {
            let generations = server.watch(cursor).await.events(8 - seen).await;
            let generations: Vec<u32> =
                generations.iter().map(|event| event.refresh_generation).collect();
            let expected: Vec<u32> = (seen as u32 + 1..=8).collect();
            assert_eq!(generations, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_goes_on_from_the_cursor_of_another() {
    let server = start().await;
    let behind = server
        .replica_with(|settings| settings.watch.poll = std::time::Duration::from_millis(700))
        .await;
    let writer = server.db.connect().await;
    // Its feed reader runs, and polls rarely.
    let _reading = behind.watch("").await;
    let mut watcher = server.watch("").await;
    let mut seen = 0;
    for round in 0..4 {
        insert(&writer, "ada", round * 5 + 1, 5).await;
        watcher.events(3).await;
        let mut other = behind.watch(&watcher.cursor).await;
        seen += 5;
        let generations = other.events(2).await;
        let generations: Vec<i32> =
            generations.iter().map(|e| e.refresh_generation as i32).collect();
        assert_eq!(generations, [seen - 1, seen]);
        watcher.events(2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_foreign_forged_old_or_ahead_is_refused() {
    let server = start().await;
    let cursor = server.watch("").await.cursor;
    let refused = async |request: pb::WatchSessionsRequest| {
        let refused = server.watch_sessions(request).await;
        refused.err().expect("a refusal")
    };
    let of_ada = pb::SessionEventFilter { user_id: "ada".to_owned(), ..Default::default() };
    let mut forged = cursor.clone();
    forged.replace_range(3..4, if &cursor[3..4] == "A" { "B" } else { "A" });
    let wrong = [
        pb::WatchSessionsRequest { tenant_id: "acme".to_owned(), ..from(&cursor) },
        pb::WatchSessionsRequest { filter: Some(of_ada), ..from(&cursor) },
        from(&forged),
        from("x"),
        from(&"A".repeat(20_480)),
    ];
    for request in wrong {
        let status = refused(request).await;
        assert_eq!(violations(&status), ["cursor"]);
        assert_eq!(reason(&status), "CURSOR_INVALID");
    }
    let alerts =
        sessiond::grpc::pb::WatchAlertsRequest { cursor: cursor.clone(), ..Default::default() };
    let status = server.watch_alerts(alerts).await.err().expect("a refusal");
    assert_eq!(reason(&status), "CURSOR_INVALID");
    assert_eq!(reason(&refused(from(&"A".repeat(20_481))).await), "INVALID_FIELD");
    server.advance(Duration::days(7) - Duration::seconds(1));
    server.watch(&cursor).await;
    server.advance(Duration::seconds(1));
    let status = refused(from(&cursor)).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "CURSOR_EXPIRED"));
    // As in a database that was restored from an older backup.
    let db = Database::new(&server.db.url, 2).expect("a URL");
    let master = MasterKey::parse(&MASTER_KEY).expect("32 bytes");
    let (seen, changes) = (RevocationProgress::default(), TableVersions::default());
    let keys =
        KeyCache::open(&db, &master, seen, Duration::seconds(1).to_std().expect("some"), &changes);
    let cursors = Cursors::new(keys.await.expect("the keys"), move || db.timeline());
    let ahead = Position::After("999999999:999999999:".parse().expect("a snapshot"));
    let scope = b"WatchSessions\0default\0";
    let cursor = cursors.write(scope, &ahead, server.clock.now()).expect("a cursor");
    assert_eq!(reason(&refused(from(&cursor)).await), "CURSOR_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_a_watch_have_limits() {
    let server =
        start_with(|settings| settings.watch.heartbeat = std::time::Duration::MAX / 4).await;
    let every = |seconds, nanos| pb::WatchSessionsRequest {
        heartbeat_interval: Some(prost_types::Duration { seconds, nanos }),
        ..Default::default()
    };
    for (seconds, nanos) in [(0, 999_999_000), (60, 1_000), (-1, 0), (i64::MAX, 0)] {
        let status = server.watch_sessions(every(seconds, nanos)).await.err().expect("refused");
        assert_eq!(violations(&status), ["heartbeat_interval"]);
    }
    assert!(server.watch_sessions(every(60, 0)).await.is_ok());
    let mut often = server.watch_sessions(every(1, 0)).await.expect("a watch");
    assert!(often.message().await.expect("a heartbeat").is_none());
    let kinds = |kinds| filtered(pb::SessionEventFilter { kinds, ..Default::default() });
    let many = [vec![1; 15], vec![8, 8]].concat();
    for (wrong, fields) in [
        (many, vec!["filter.kinds", "filter.kinds[15]"]),
        (vec![0], vec!["filter.kinds[0]"]),
        (vec![1, 8, 9], vec!["filter.kinds[1]", "filter.kinds[2]"]),
    ] {
        let status = server.watch_sessions(kinds(wrong)).await.err().expect("refused");
        assert_eq!(violations(&status), fields);
    }
    assert!(server.watch_sessions(kinds(vec![1; 16])).await.is_ok());
    let all_wrong = pb::WatchSessionsRequest {
        tenant_id: "a b".to_owned(),
        filter: Some(pb::SessionEventFilter {
            user_id: "u".repeat(129),
            session_id: "x".to_owned(),
            kinds: vec![9],
        }),
        cursor: "A".repeat(20_481),
        heartbeat_interval: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
    };
    let status = server.watch_sessions(all_wrong).await.err().expect("refused");
    let fields = ["tenant_id", "filter.user_id", "filter.session_id", "filter.kinds[0]", "cursor"];
    assert_eq!(violations(&status), [&fields[..], &["heartbeat_interval"]].concat());
}
