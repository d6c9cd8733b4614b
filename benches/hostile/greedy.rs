//! What one caller takes that others need: by a peer without credentials, and by a principal with the least role. All of
//! it comes from addresses of their own, as in `attacks`. The server's log is a pipe that nobody reads.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use prost::Message;
use sessiond::grpc::pb;
use tonic::{Code, Request};

use crate::attacks::client;
use crate::server::Server;
use crate::wire::{
    DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, VALIDATE, Wire, call, message,
};

/// Connections, and streams of each.
const CONNECTIONS: u8 = 16;
const STREAMS: u32 = 256;

const STREAM: &str = "/sessiond.v1.SessionService/ValidateSessions";
const REVOCATIONS: &str = "/sessiond.v1.SessionService/WatchRevocations";

/// What is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greed {
    /// 4096 watches of health over 16 connections, without credentials.
    HealthWatches,
    /// The same of reflection.
    Reflection,
    /// Streams of validations on which nothing is asked.
    IdleValidations,
    RevocationWatches,
    /// Answers at a window of 0.
    Unread,
    /// Batches of 4 MiB.
    Batches,
    /// Access tokens that are none, 50 a second.
    JunkTokens,
    /// API keys that are none, as often as it goes.
    JunkKeys,
    /// Unknown methods with a path of 15 KiB, as often as it goes.
    LongPaths,
}

impl Greed {
    pub const ALL: [Greed; 9] = [
        Greed::HealthWatches,
        Greed::Reflection,
        Greed::IdleValidations,
        Greed::RevocationWatches,
        Greed::Unread,
        Greed::Batches,
        Greed::JunkTokens,
        Greed::JunkKeys,
        Greed::LongPaths,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Greed::HealthWatches => "4096 watches of health",
            Greed::Reflection => "4096 streams of reflection",
            Greed::IdleValidations => "4096 idle streams of validations",
            Greed::RevocationWatches => "4096 watches of revocations",
            Greed::Unread => "4096 answers at window 0",
            Greed::Batches => "batches of 4 MiB",
            Greed::JunkTokens => "50 junk tokens a second",
            Greed::JunkKeys => "junk keys",
            Greed::LongPaths => "paths of 15 KiB",
        }
    }

    /// Takes it for so long; how often.
    pub async fn run(self, server: &Server, lasting: Duration) -> anyhow::Result<u64> {
        let until = Instant::now() + lasting;
        let key = server.greedy.as_deref().context("a server with callers")?;
        let bearer = format!("Bearer {key}");
        let own: &[(&str, &str)] = &[("authorization", &bearer)];
        let tasks = (0..CONNECTIONS).map(async |number| {
            let (from, to) = ([127, 40 + self as u8, number, 1].into(), server.addr);
            match self {
                Greed::HealthWatches => {
                    hold(from, to, until, "/grpc.health.v1.Health/Watch", &[], Some(&[])).await
                }
                Greed::Reflection => {
                    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
                    hold(from, to, until, path, &[], None).await
                }
                Greed::IdleValidations => hold(from, to, until, STREAM, own, None).await,
                Greed::RevocationWatches => {
                    hold(from, to, until, REVOCATIONS, own, Some(&[])).await
                }
                Greed::Unread => unread(from, to, until, own).await,
                Greed::Batches if number < 4 => batches(from, to, until, &bearer).await,
                Greed::JunkTokens if number == 0 => {
                    let pace = Some(Duration::from_millis(20));
                    repeat(from, to, until, (VALIDATE, own), &junk(), pace).await
                }
                Greed::JunkKeys if number < 4 => {
                    let wrong = format!("Bearer ssk_{}_{}", "a".repeat(12), "b".repeat(43));
                    let wrong: &[(&str, &str)] = &[("authorization", &wrong)];
                    repeat(from, to, until, (VALIDATE, wrong), &junk(), None).await
                }
                Greed::LongPaths if number < 4 => {
                    let path = format!("/{}", "p".repeat(15 << 10));
                    repeat(from, to, until, (&path, &[]), &[], None).await
                }
                Greed::Batches | Greed::JunkTokens | Greed::JunkKeys | Greed::LongPaths => Ok(0),
            }
        });
        Ok(try_join_all(tasks).await?.into_iter().sum())
    }
}

fn junk() -> Vec<u8> {
    let access_token = "junk".repeat(100);
    pb::ValidateSessionRequest { access_token, ..Default::default() }.encode_to_vec()
}

/// Opens as many streams as a connection may have, sends each this message if any, and holds them.
async fn hold(
    from: Ipv4Addr,
    to: SocketAddr,
    until: Instant,
    path: &str,
    more: &[(&str, &str)],
    first: Option<&[u8]>,
) -> anyhow::Result<u64> {
    let mut wire = Wire::open_from(from, to).await;
    let head = call(path, more);
    for n in 0..STREAMS {
        wire.send(HEADERS, END_HEADERS, 2 * n + 1, &head).await;
        if let Some(first) = first {
            wire.send(DATA, END_STREAM, 2 * n + 1, &message(first)).await;
        }
    }
    drained(&mut wire, until).await;
    Ok(STREAMS.into())
}

/// Calls whose answers are not taken.
async fn unread(
    from: Ipv4Addr,
    to: SocketAddr,
    until: Instant,
    more: &[(&str, &str)],
) -> anyhow::Result<u64> {
    let mut wire = Wire::open_from(from, to).await;
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, section 6.5.2).
    wire.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
    let (head, body) = (call(VALIDATE, more), message(&junk()));
    for n in 0..STREAMS {
        wire.send(HEADERS, END_HEADERS, 2 * n + 1, &head).await;
        wire.send(DATA, END_STREAM, 2 * n + 1, &body).await;
    }
    drained(&mut wire, until).await;
    Ok(STREAMS.into())
}

/// Reads what comes until then.
async fn drained(wire: &mut Wire, until: Instant) {
    let reading = async {
        while let Some(frame) = wire.next().await {
            wire.answer(&frame).await;
        }
    };
    // It ends sooner only if the server closes the connection.
    let _ = tokio::time::timeout_at(until.into(), reading).await;
    tokio::time::sleep_until(until.into()).await;
}

/// Reports of almost 4 MiB that are refused only once they are read.
async fn batches(
    from: Ipv4Addr,
    to: SocketAddr,
    until: Instant,
    bearer: &str,
) -> anyhow::Result<u64> {
    let mut client = client(from, to)?;
    let mut done = 0;
    while Instant::now() < until {
        // With the field's own bytes.
        let request_id = "x".repeat((4 << 20) - 5);
        let mut request =
            Request::new(pb::RecordActivitiesRequest { request_id, ..Default::default() });
        request.metadata_mut().insert("authorization", bearer.parse()?);
        let refused = client.record_activities(request).await.err().context("it was taken")?;
        ensure!(refused.code() == Code::InvalidArgument, "{refused:?}");
        done += 1;
    }
    Ok(done)
}

/// One call after the other, each of which must be answered, unless the server closes the connection after many.
async fn repeat(
    from: Ipv4Addr,
    to: SocketAddr,
    until: Instant,
    (path, more): (&str, &[(&str, &str)]),
    body: &[u8],
    pace: Option<Duration>,
) -> anyhow::Result<u64> {
    let (head, body) = (call(path, more), message(body));
    let mut done = 0;
    'connections: while Instant::now() < until {
        let mut wire = Wire::open_from(from, to).await;
        for n in 0..1000 {
            if Instant::now() >= until {
                break 'connections;
            }
            wire.send(HEADERS, END_HEADERS, 2 * n + 1, &head).await;
            wire.send(DATA, END_STREAM, 2 * n + 1, &body).await;
            loop {
                let Some(frame) = wire.next().await else {
                    // What is refused before it was sent counts as an error of its stream.
                    ensure!(n > 100, "the connection was closed after {n} calls");
                    continue 'connections;
                };
                if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                    break;
                }
                wire.answer(&frame).await;
            }
            done += 1;
            if let Some(pace) = pace {
                tokio::time::sleep(pace).await;
            }
        }
    }
    Ok(done)
}
