//! Limits of calls: their number, size and duration.

use std::time::Duration;

use futures_util::future::join_all;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tokio_stream::StreamExt;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::harness::calls::{parts, reason};
use crate::harness::scrape::{scrape, until, until_calm, with_port};
use crate::harness::wire::{
    END_HEADERS, HEADERS, REFUSED_STREAM, RST_STREAM, SETTINGS, VALIDATE, Wire, call,
};
use crate::harness::{impatient, start, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_at_once_on_one_connection_are_served() {
    let server = start().await;
    let (_, token, _) = parts(&server.create("ada").await);
    for _ in 0..5 {
        let calls = (0..200).map(|_| server.validate(&token));
        let judged = join_all(calls).await;
        assert!(judged.iter().all(|judged| judged.outcome() == pb::Outcome::Active));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_more_than_may_be_is_refused_alone() {
    let server = start_with(with_port).await;
    let mut wire = Wire::open(server.addr).await;
    let settings = wire.until(SETTINGS).await;
    let received: Vec<(u16, u32)> = settings
        .payload
        .chunks(6)
        .map(|one| {
            let value = one[2..].try_into().expect("four bytes");
            (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes(value))
        })
        .collect();
    for expected in [(3, 256), (5, 16_384), (6, 16_384)] {
        // RFC 9113, section 6.5.2: streams, frame size (may be omitted if default), header list.
        assert!(received.contains(&expected) || expected.0 == 5, "{expected:?} in {received:?}");
    }
    for n in 0..256 {
        wire.send(HEADERS, END_HEADERS, 2 * n + 1, &call(VALIDATE, &[])).await;
    }
    until(&server, "sessiond_requests_in_progress", 256.0).await;
    wire.send(HEADERS, END_HEADERS, 513, &call(VALIDATE, &[])).await;
    let refused = wire.until(RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (513, REFUSED_STREAM));
    assert_eq!(scrape(&server).await["sessiond_requests_in_progress"], 256.0);
    drop(wire);
    until_calm(&server).await;
}

/// Which share is used up: of what, whose, and how many there may be.
fn share(refused: &tonic::Status) -> [String; 3] {
    let info = refused.get_details_error_info().expect("a reason");
    ["kind", "share", "limit"].map(|name| info.metadata[name].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_too_many_is_refused_until_there_is_room_again() {
    let server = start_with(|settings| {
        with_port(settings);
        settings.edge.shares.max_requests = 2;
        settings.edge.shares.max_open_streams = 2;
    })
    .await;
    let (_, token, _) = parts(&server.create("ada").await);
    // Streams have room of their own.
    let (first, second) = (server.watch("").await, server.watch("").await);
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    let refused =
        server.watch_sessions(pb::WatchSessionsRequest::default()).await.err().expect("no room");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refused.get_error_details().retry_info().is_some());
    assert_eq!(share(&refused), ["stream", "all", "2"]);
    drop(first);
    until(&server, "sessiond_streams_open", 1.0).await;
    let third = server.watch("").await;
    // Two calls wait for the database.
    let held = server.db.hold("SELECT 1 FROM session_users FOR UPDATE").await;
    let creating = join_all((0..2).map(|_| server.create("ada")));
    let refusing = async {
        until(&server, "sessiond_requests_in_progress", 4.0).await;
        let refused = server.try_validate(&token).await.expect_err("no room");
        assert_eq!(share(&refused), ["call", "all", "2"]);
        drop(held);
    };
    futures_util::future::join(creating, refusing).await;
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
    drop((second, third));
    until_calm(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_its_time_and_a_stream_goes_on() {
    let server = start_with(|settings| {
        impatient(settings);
        settings.edge.request_timeout = Duration::from_secs(1);
    })
    .await;
    server.create("ada").await;
    let mut watcher = server.watch("").await;
    // Each create waits for this lock, and the database timeout is longer.
    let _held = server.db.hold("SELECT 1 FROM session_users FOR UPDATE").await;
    let begun = std::time::Instant::now();
    let refused = server.try_create(crate::harness::calls::new_session("ada")).await;
    let refused = refused.expect_err("no lock");
    assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Unavailable), "{refused:?}");
    let why = crate::harness::calls::reason(&refused);
    assert!(["DEADLINE_EXCEEDED", "DATABASE_UNAVAILABLE"].contains(&why.as_str()), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Several heartbeats, over a longer time than the limit of a call.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        server.create("bob").await;
        watcher.events(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_own_deadline_is_kept() {
    let server = start().await;
    server.create("ada").await;
    let _held = server.db.hold("SELECT 1 FROM session_users FOR UPDATE").await;
    let mut request = Request::new(crate::harness::calls::new_session("ada"));
    // Only the server has this deadline, so the answer is the server's.
    request.metadata_mut().insert("grpc-timeout", "50m".parse().expect("ASCII"));
    let refused = server.sessions().create_session(request).await.expect_err("no lock");
    assert!(
        matches!(refused.code(), Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled),
        "{refused:?}"
    );
}

/// A request whose message has exactly this many bytes.
fn of_size(bytes: usize) -> pb::ValidateSessionRequest {
    let with = |length| pb::ValidateSessionRequest {
        access_token: "x".repeat(length),
        ..Default::default()
    };
    // Minus the bytes of tag and length.
    with(bytes - (prost::Message::encoded_len(&with(bytes)) - bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_have_32_kibibytes_and_no_byte_more() {
    let server = start().await;
    let most = 32 << 10;
    assert_eq!(prost::Message::encoded_len(&of_size(most)), most);
    let judged = server.sessions().validate_session(of_size(most)).await.expect("a judgement");
    assert_eq!(judged.into_inner().inactive_reason(), pb::InactiveReason::Malformed);
    let refused = server.sessions().validate_session(of_size(most + 1)).await;
    assert_eq!(refused.expect_err("too large").code(), Code::OutOfRange);
    let mut stream = server
        .sessions()
        .validate_sessions(tokio_stream::once(pb::ValidateSessionsRequest {
            request: Some(of_size(most + 1)),
            ..Default::default()
        }))
        .await
        .expect("a stream")
        .into_inner();
    let refused = stream.next().await.expect("an answer").expect_err("too large");
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_reports_may_have_four_mebibytes_or_as_the_setting_says() {
    for (setting, most) in [(None, 4 << 20), (Some(64), 64 << 10)] {
        let server = start_with(|settings| {
            settings.edge.max_message_size = setting.unwrap_or(settings.edge.max_message_size);
        })
        .await;
        let reports = async |bytes: usize| {
            let with = |length| pb::RecordActivitiesRequest {
                request_id: "x".repeat(length),
                ..Default::default()
            };
            let request = with(bytes - (prost::Message::encoded_len(&with(bytes)) - bytes));
            assert_eq!(prost::Message::encoded_len(&request), bytes);
            reason(&server.sessions().record_activities(request).await.expect_err("no reports"))
        };
        assert_eq!(reports(most).await, "INVALID_FIELD");
        assert_eq!(reports(most + 1).await, "MESSAGE_TOO_LARGE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_have_their_size_and_no_more() {
    let server = start().await;
    let (_, token, _) = parts(&server.create("ada").await);
    let with = |bytes: usize| {
        let access_token = token.clone();
        let message = pb::ValidateSessionRequest { access_token, ..Default::default() };
        let mut request = Request::new(message);
        for n in 0..bytes / 1_024 {
            // Each header counts 32 bytes more (RFC 9113, section 6.5.2).
            let name: tonic::metadata::MetadataKey<_> = format!("x-{n:02}").parse().expect("one");
            let value = "a".repeat(1_024 - 32 - 4).parse().expect("ASCII");
            request.metadata_mut().insert(name, value);
        }
        request
    };
    server.sessions().validate_session(with(15 << 10)).await.expect("within");
    // Each over its own connection, since the server may close it.
    for beyond in [17 << 10, 100 << 10] {
        let mut client = SessionServiceClient::new(server.another_channel().await);
        client.validate_session(with(beyond)).await.expect_err("beyond");
    }
    assert_eq!(server.validate(&token).await.outcome(), pb::Outcome::Active);
}
