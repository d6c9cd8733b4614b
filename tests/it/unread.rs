//! Answers that nobody reads.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use prost::Message;
use sessiond::grpc::pb;
use sessiond::server::Settings;

use crate::harness::TestServer;
use crate::harness::calls::parts;
use crate::harness::scrape::{scrape, until, with_port};
use crate::harness::start_with;
use crate::harness::wire::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, VALIDATE, WINDOW_UPDATE, Wire,
    call, message,
};

const UNREAD: &str = "sessiond_answers_unread_total";
const CANCEL: u32 = 8;

fn hasty(settings: &mut Settings) {
    with_port(settings);
    settings.edge.answer_timeout = Duration::from_millis(400);
}

/// A connection whose peer takes so many bytes of each stream.
async fn narrow(server: &TestServer, window: u32) -> Wire {
    let mut wire = Wire::open(server.addr).await;
    set_window(&mut wire, window).await;
    wire
}

/// RFC 9113, section 6.5.2: SETTINGS_INITIAL_WINDOW_SIZE is 4.
async fn set_window(wire: &mut Wire, window: u32) {
    wire.send(SETTINGS, 0, 0, &[&[0, 4], &window.to_be_bytes()[..]].concat()).await;
}

async fn validate(wire: &mut Wire, stream: u32, token: &str) {
    let request =
        pb::ValidateSessionRequest { access_token: token.to_owned(), ..Default::default() };
    wire.send(HEADERS, END_HEADERS, stream, &call(VALIDATE, &[])).await;
    wire.send(DATA, END_STREAM, stream, &message(&request.encode_to_vec())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_at_window_zero_is_given_up_alone() {
    let server = start_with(hasty).await;
    let (_, token, _) = parts(&server.create("ada").await);
    let mut wire = narrow(&server, 0).await;
    validate(&mut wire, 1, &token).await;
    until(&server, "sessiond_requests_in_progress", 1.0).await;
    let reset = wire.until(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    until(&server, "sessiond_requests_in_progress", 0.0).await;
    assert_eq!(scrape(&server).await[UNREAD], 1.0);
    // The connection goes on.
    set_window(&mut wire, 65_535).await;
    validate(&mut wire, 3, &token).await;
    let answer = wire.until(DATA).await;
    assert!(answer.stream == 3 && answer.payload.len() > 50, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_answer_of_which_one_byte_is_taken_ends_its_connection() {
    let server = start_with(hasty).await;
    let (_, token, _) = parts(&server.create("ada").await);
    let mut wire = narrow(&server, 1).await;
    validate(&mut wire, 1, &token).await;
    let byte = wire.until(DATA).await;
    assert_eq!(byte.payload.len(), 1);
    // It holds its room until then.
    assert_eq!(scrape(&server).await["sessiond_requests_in_progress"], 1.0);
    wire.until_closed().await;
    until(&server, "sessiond_requests_in_progress", 0.0).await;
    assert_eq!(scrape(&server).await[UNREAD], 1.0);
    server.validate(&token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_read_slowly_is_read_to_its_end() {
    let server = start_with(|settings| {
        hasty(settings);
        settings.edge.answer_timeout = Duration::from_secs(2);
    })
    .await;
    join_all((0..700).map(|_| server.create("ada"))).await;
    let mut wire = narrow(&server, 0).await;
    // Room on the connection: only the stream is narrow.
    wire.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
    let list = pb::ListSessionsRequest { page_size: 1000, ..Default::default() };
    let path = "/sessiond.v1.SessionService/ListSessions";
    wire.send(HEADERS, END_HEADERS, 1, &call(path, &[])).await;
    wire.send(DATA, END_STREAM, 1, &message(&list.encode_to_vec())).await;
    wire.until(HEADERS).await;
    // In many parts: each in time, all of them in much more than that.
    let begun = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let (mut window, mut got) = (0, 0);
    let ended = loop {
        window += 2_048;
        pace.tick().await;
        set_window(&mut wire, window).await;
        let frame = loop {
            let frame = wire.next().await.expect("not closed");
            if [DATA, HEADERS, RST_STREAM].contains(&frame.kind) {
                break frame;
            }
            wire.answer(&frame).await;
        };
        if frame.kind != DATA {
            break frame;
        }
        got += frame.payload.len();
    };
    assert_eq!(ended.kind, HEADERS, "{got} bytes");
    assert!(got > 100_000 && begun.elapsed() > Duration::from_secs(6), "{got}");
    assert_eq!(scrape(&server).await[UNREAD], 0.0);
}
