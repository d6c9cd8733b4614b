//! WatchRevocations at its limits: many revocations at once, too many gateways, and a gateway that does not read.

use std::collections::HashSet;
use std::time::Duration;

use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::harness::calls::{parts, reason};
use crate::harness::{TestServer, start, start_with, wait};

type Stream = Streaming<pb::WatchRevocationsResponse>;

/// The most revocations after a cursor that are sent without a resync.
const MAX_SINCE: i32 = 20_000;

/// Inserts revocations, of sessions that do not exist.
async fn revoke(server: &TestServer, count: i32) {
    let sql = "INSERT INTO revocations
            (tenant_id, level, subject, below_generation, revoked_at, evict_at)
        SELECT 'default', 1, gen_random_uuid()::text, 2147483647, $2::text::timestamptz,
            $2::text::timestamptz + interval '1 day'
        FROM generate_series(1, $1::int)";
    let now = server.clock.now().to_rfc3339();
    let rows = server.db.connect().await.execute(sql, &[&count, &now]).await;
    assert_eq!(rows.expect("rows"), u64::try_from(count).expect("a count"));
}

async fn open(channel: Channel, tenant: &str, cursor: &str) -> Result<Stream, Status> {
    let request = pb::WatchRevocationsRequest {
        tenant_id: tenant.to_owned(),
        cursor: cursor.to_owned(),
        // No heartbeats.
        heartbeat_interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    let opened = SessionServiceClient::new(channel).watch_revocations(request).await?;
    Ok(opened.into_inner())
}

async fn message(stream: &mut Stream) -> Result<pb::WatchRevocationsResponse, Status> {
    let next = tokio::time::timeout(Duration::from_secs(30), stream.message()).await;
    Ok(next.expect("a message, in 30 seconds")?.expect("a stream ends with a status"))
}

/// Whether the stream begins with a resync, the subjects, and the first cursor.
async fn read_to_cursor(server: &TestServer, cursor: &str) -> (bool, HashSet<String>, String) {
    let mut stream = open(server.channel(), "", cursor).await.expect("a stream");
    let (mut resync, mut subjects, mut messages) = (false, HashSet::new(), 0);
    loop {
        let message = message(&mut stream).await.expect("a message");
        assert!(!message.resync || messages == 0, "once, at the beginning");
        assert!(message.revocations.len() <= 1000);
        resync |= message.resync;
        messages += 1;
        subjects.extend(message.revocations.into_iter().map(|revocation| revocation.subject));
        if message.checked_time.is_some() {
            assert!(messages >= subjects.len().div_ceil(1000));
            return (resync, subjects, message.cursor);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_message_is_sent_in_several_and_more_than_twenty_thousand_with_a_resync() {
    let server = start().await;
    revoke(&server, 2_500).await;
    let (resync, subjects, cursor) = read_to_cursor(&server, "").await;
    assert_eq!((resync, subjects.len()), (true, 2_500));

    revoke(&server, MAX_SINCE).await;
    let (resync, subjects, _) = read_to_cursor(&server, &cursor).await;
    assert_eq!((resync, subjects.len()), (false, 20_000), "what came since");
    let (id, ..) = parts(&server.create("ada").await);
    server.terminate(&id).await.expect("ok");
    let (resync, subjects, _) = read_to_cursor(&server, &cursor).await;
    assert_eq!((resync, subjects.len()), (true, 22_501), "all that is in force");
    assert!(subjects.contains(&id));
}

/// A gateway past its first message, as soon as a slot is free.
async fn gateway(channel: Channel) -> Stream {
    let mut opened = None;
    wait::until(async || {
        let Ok(mut stream) = open(channel.clone(), "calm", "").await else { return false };
        opened = message(&mut stream).await.is_ok().then_some(stream);
        opened.is_some()
    })
    .await;
    opened.expect("a place")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_beyond_the_places_is_refused_until_one_leaves_or_does_not_read() {
    let server = start_with(|settings| {
        settings.watch.patience = Duration::from_secs(1);
        settings.watch.gateways = 3;
    })
    .await;
    // More than the queue of a stream holds.
    revoke(&server, 45_000).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(gateway(server.channel()).await);
    }
    let full = open(server.channel(), "calm", "").await.expect_err("no place");
    assert_eq!((full.code(), reason(&full).as_str()), (Code::ResourceExhausted, "OVERLOADED"));

    drop(streams.pop());
    let thin = Endpoint::from_shared(format!("http://{}", server.addr)).expect("an address");
    let thin = thin.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let thin = thin.connect().await.expect("the server accepts");
    let mut silent = None;
    wait::until(async || {
        silent = open(thin.clone(), "", "").await.ok();
        silent.is_some()
    })
    .await;
    // The silent gateway reads nothing until another one has its slot.
    streams.push(gateway(server.channel()).await);
    let mut silent = silent.expect("a stream");
    let end = loop {
        match message(&mut silent).await {
            Ok(message) => assert!(message.cursor.is_empty(), "it was told all"),
            Err(end) => break end,
        }
    };
    assert_eq!((end.code(), reason(&end).as_str()), (Code::ResourceExhausted, "WATCH_TOO_SLOW"));
}
