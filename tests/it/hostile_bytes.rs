//! Messages with flipped bits: each is answered, and does no harm.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use sessiond::grpc::pb;
use tokio::net::TcpStream;

use crate::harness::bystander::Bystander;
use crate::harness::calls::{new_session, parts};
use crate::harness::scrape::{scrape, until_calm, with_port};
use crate::harness::start_with;
use crate::harness::wire::message;

const MESSAGES: usize = 10_000;
const AT_ONCE: usize = 16;
const SEED: u64 = 0x5e55_10d0;

/// Xorshift: the same messages every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    /// Flips one to eight bits, and truncates, doubles or extends some.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len());
            bytes[at] ^= 1 << self.below(8);
        }
        match self.below(6) {
            0 => bytes.truncate(self.below(bytes.len())),
            1 => bytes.extend(bytes.clone()),
            2 => bytes.extend((0..self.below(64)).map(|n| u8::try_from(n * 3).expect("small"))),
            _ => {}
        }
        bytes
    }
}

/// Sends a message, which must be answered; returns the code.
async fn answered(client: SendRequest<Bytes>, path: &str, body: Vec<u8>) -> String {
    let request = Request::post(format!("http://sessiond/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("the connection holds");
    let (answer, mut sender) = client.send_request(request, false).expect("a stream");
    sender.send_data(message(&body).into(), true).expect("a body");
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let code = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("a whole answer");
        body.flow_control().release_capacity(chunk.len()).expect("what was read");
    }
    let trailers = body.trailers().await.expect("an end");
    let code = code.or_else(|| trailers?.get("grpc-status").cloned());
    code.expect("a status").to_str().expect("ASCII").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_spoilt_messages_are_all_answered() {
    let server = start_with(with_port).await;
    let bystander = Bystander::before(&server).await;
    let (session_id, access_token, refresh_token) = parts(&server.create("ada").await);
    let session = "sessiond.v1.SessionService";
    let filter = pb::SessionFilter { user_id: "ada".to_owned(), ..Default::default() };
    let report = pb::ReportedActivity {
        session_id: session_id.clone(),
        user_id: "ada".to_owned(),
        endpoint: "/orders".to_owned(),
        ..Default::default()
    };
    let client = pb::ClientContext {
        ip_address: "2001:db8::1".to_owned(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0".to_owned(),
        ..Default::default()
    };
    let kinds: Vec<(String, Vec<u8>)> = [
        (
            "ValidateSession",
            pb::ValidateSessionRequest {
                access_token,
                client: Some(client.clone()),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "CreateSession",
            pb::CreateSessionRequest { client: Some(client), ..new_session("eve") }.encode_to_vec(),
        ),
        (
            "RefreshSession",
            pb::RefreshSessionRequest { refresh_token, client: None }.encode_to_vec(),
        ),
        ("GetSession", pb::GetSessionRequest { session_id, ..Default::default() }.encode_to_vec()),
        (
            "ListSessions",
            pb::ListSessionsRequest {
                filter: Some(filter),
                page_size: 2,
                page_token: "cGFnZQ".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "RecordActivities",
            pb::RecordActivitiesRequest { activities: vec![report; 3], ..Default::default() }
                .encode_to_vec(),
        ),
    ]
    .map(|(method, bytes)| (format!("{session}/{method}"), bytes))
    .into_iter()
    .chain([(
        "sessiond.v1.AlertService/ListAlerts".to_owned(),
        pb::ListAlertsRequest { page_size: 2, page_token: "x".to_owned(), ..Default::default() }
            .encode_to_vec(),
    )])
    .collect();

    let stream = TcpStream::connect(server.addr).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let run = |lane: usize| {
        let (client, kinds) = (client.clone(), kinds.clone());
        async move {
            let mut random = Random(SEED + u64::try_from(lane).expect("a small number"));
            let mut codes = BTreeMap::<String, usize>::new();
            for n in 0..MESSAGES / AT_ONCE {
                let (path, sound) = &kinds[n % kinds.len()];
                let body = random.spoil(sound);
                *codes.entry(answered(client.clone(), path, body).await).or_default() += 1;
            }
            codes
        }
    };
    let lanes = join_all((0..AT_ONCE).map(|lane| tokio::spawn(run(lane)))).await;
    let mut codes = BTreeMap::<String, usize>::new();
    for lane in lanes {
        for (code, count) in lane.expect("no panic") {
            *codes.entry(code).or_default() += count;
        }
    }
    assert_eq!(codes.values().sum::<usize>(), MESSAGES / AT_ONCE * AT_ONCE);
    // OK, INVALID_ARGUMENT, and INTERNAL, which gRPC uses for a message that cannot be decoded. A fault of the service
    // would be UNKNOWN, or counted as INTERNAL in the metrics.
    for code in ["0", "3", "13"] {
        assert!(codes.get(code).is_some_and(|count| *count > 100), "{codes:?}");
    }
    assert!(!codes.contains_key("2"), "{codes:?}");
    let found = scrape(&server).await;
    let counted = |code: &str| {
        let series = format!("sessiond_grpc_calls_total{{code=\"{code}\"");
        found.iter().filter(|(name, _)| name.starts_with(&series)).map(|(_, n)| n).sum::<f64>()
    };
    let unreadable = u32::try_from(codes["13"]).expect("a small number");
    assert_eq!((counted("UNREADABLE"), counted("INTERNAL")), (unreadable.into(), 0.0));
    drop(client);
    bystander.leave().await;
    until_calm(&server).await;
}
