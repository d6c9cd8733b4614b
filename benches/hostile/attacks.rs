//! The attacks. Each comes from four tasks of one thread, and ends by itself. Each task has addresses of its own, so that
//! limits of a peer hold for it and not for the honest caller.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use crate::Args;
use crate::pki::hello;
use crate::server::Server;
use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS,
    PREFACE, RST_STREAM, VALIDATE, WINDOW_UPDATE, Wire, call, connect, message,
};

/// Attackers at once.
const ABREAST: usize = 4;
/// Calls of a connection before the next one is opened.
const CALLS: u32 = 500;

/// Connections of the crowd from one address.
const CROWD: usize = 500;

/// From where to where.
#[derive(Clone, Copy)]
struct Way {
    from: Ipv4Addr,
    to: SocketAddr,
}

/// What is done to the server.
#[derive(Debug, Clone, Copy)]
pub enum Attack {
    RapidReset,
    ProvokedReset,
    Continuation,
    EmptyData,
    HalfPreface,
    ByteByByte,
    Crowd,
    Metadata,
    Oversize,
    Spoilt,
    HalfHello,
    HelloByteByByte,
    Handshakes,
}

impl Attack {
    /// On a server without TLS.
    pub const PLAIN: [Attack; 10] = [
        Attack::RapidReset,
        Attack::ProvokedReset,
        Attack::Continuation,
        Attack::EmptyData,
        Attack::HalfPreface,
        Attack::ByteByByte,
        Attack::Crowd,
        Attack::Metadata,
        Attack::Oversize,
        Attack::Spoilt,
    ];
    /// On one with TLS.
    pub const TLS: [Attack; 3] = [Attack::HalfHello, Attack::HelloByteByByte, Attack::Handshakes];

    pub fn name(self) -> &'static str {
        match self {
            Attack::RapidReset => "rapid resets",
            Attack::ProvokedReset => "provoked resets",
            Attack::Continuation => "headers without an end",
            Attack::EmptyData => "empty data without an end",
            Attack::HalfPreface => "half a preface",
            Attack::ByteByByte => "byte by byte",
            Attack::Crowd => "a crowd that idles",
            Attack::Metadata => "too many headers",
            Attack::Oversize => "a byte more than 4 MiB",
            Attack::Spoilt => "spoilt messages",
            Attack::HalfHello => "half a TLS hello",
            Attack::HelloByteByByte => "a TLS hello byte by byte",
            Attack::Handshakes => "TLS, and no more",
        }
    }

    /// Attacks for so long; how often. A crowd and spoilt messages take the time that they need, if it is a whole round.
    pub async fn run(self, server: &Server, args: &Args, lasting: Duration) -> anyhow::Result<u64> {
        let whole = lasting > Duration::from_secs(1);
        let until = Instant::now() + lasting;
        let some = |all: u32| if whole { all } else { all.min(200) };
        let tasks = (0..ABREAST).map(async |number| {
            let way = Way { from: [127, 1 + self as u8, number as u8, 1].into(), to: server.addr };
            match self {
                Attack::RapidReset => {
                    let pair = |n: u32| [begin(n), reset(n)].concat();
                    flood(way, until, (0..4000).flat_map(pair).collect()).await
                }
                Attack::ProvokedReset => {
                    // A window that grows too large is an error of its stream (RFC 9113, section 6.9.1).
                    let most = 0x7fff_ffff_u32.to_be_bytes();
                    let grow = |n| Frame::new(WINDOW_UPDATE, 0, 2 * n + 1, &most).bytes();
                    let pair = |n: u32| [begin(n), grow(n)].concat();
                    flood(way, until, (0..4000).flat_map(pair).collect()).await
                }
                Attack::Continuation => {
                    let head = Frame::new(HEADERS, 0, 1, &call(VALIDATE, &[])).bytes();
                    let more = Frame::new(CONTINUATION, 0, 1, b"\x00\x01a\x01b").bytes();
                    flood(way, until, [head, more.repeat(20_000)].concat()).await
                }
                Attack::EmptyData => {
                    let empty = Frame::new(DATA, 0, 1, b"").bytes();
                    flood(way, until, [begin(0), empty.repeat(20_000)].concat()).await
                }
                Attack::HalfPreface => halves(way, until, &PREFACE[..20]).await,
                Attack::ByteByByte => dribble(way, until, PREFACE).await,
                Attack::Crowd => crowd(way, until, some(args.crowd) as usize / ABREAST).await,
                Attack::Metadata => metadata(way, until).await,
                Attack::Oversize => oversize(way, until).await,
                Attack::Spoilt => {
                    spoilt(way, some(args.spoilt) / ABREAST as u32, number as u64).await
                }
                Attack::HalfHello => {
                    let hello = hello();
                    halves(way, until, &hello[..hello.len() / 2]).await
                }
                Attack::HelloByteByByte => dribble(way, until, &hello()).await,
                Attack::Handshakes => {
                    handshakes(way, until, server.tls.clone().context("a server with TLS")?).await
                }
            }
        });
        Ok(try_join_all(tasks).await?.into_iter().sum())
    }
}

fn begin(n: u32) -> Vec<u8> {
    Frame::new(HEADERS, END_HEADERS, 2 * n + 1, &call(VALIDATE, &[])).bytes()
}

fn reset(n: u32) -> Vec<u8> {
    Frame::new(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()).bytes()
}

/// Sends it over one connection after the other, each of which the server must end.
async fn flood(way: Way, until: Instant, bytes: Vec<u8>) -> anyhow::Result<u64> {
    let mut done = 0;
    while Instant::now() < until {
        let mut wire = Wire::open_from(way.from, way.to).await;
        wire.write(&bytes).await;
        let frames = wire.until_closed().await;
        // What it said last may be lost with the connection.
        let told = frames.iter().rev().find(|frame| frame.kind == GOAWAY).map(Frame::code);
        ensure!(told.is_none_or(|code| code == ENHANCE_YOUR_CALM), "it was told {told:?}");
        done += 1;
    }
    Ok(done)
}

/// Connections that begin and say no more; the server closes them in its time.
async fn halves(way: Way, until: Instant, half: &[u8]) -> anyhow::Result<u64> {
    let mut held = Vec::new();
    while Instant::now() < until {
        let mut stream = connect(way.from, way.to).await?;
        // It may have been given up for another already.
        let _ = stream.write_all(half).await;
        held.push(stream);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(held.len() as u64)
}

/// Connections that say a byte a second.
async fn dribble(way: Way, until: Instant, bytes: &[u8]) -> anyhow::Result<u64> {
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(connect(way.from, way.to).await?);
    }
    for byte in bytes.iter().cycle() {
        for stream in &mut held {
            let _ = stream.write_all(&[*byte]).await;
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(held.len() as u64)
}

/// Connections over which nothing is said once TLS stands, which is the dear part for a server.
async fn handshakes(way: Way, until: Instant, config: ClientConfig) -> anyhow::Result<u64> {
    let connector = TlsConnector::from(Arc::new(config));
    let (mut done, mut stood) = (0, false);
    while Instant::now() < until {
        let stream = connect(way.from, way.to).await?;
        // It fails where the server has enough of them.
        stood |= connector.connect(ServerName::try_from("localhost")?, stream).await.is_ok();
        done += 1;
    }
    ensure!(stood, "TLS never stood");
    Ok(done)
}

async fn crowd(way: Way, until: Instant, count: usize) -> anyhow::Result<u64> {
    let mut held = Vec::new();
    for number in 0..count {
        let [a, b, c, d] = way.from.octets();
        let from = Ipv4Addr::new(a, b, c, d + (number / CROWD) as u8);
        held.push(Wire::open_from(from, way.to).await);
    }
    tokio::time::sleep_until(until.into()).await;
    // It is still there.
    if let Some(last) = held.last_mut() {
        let head = call("/nothing/here", &[]);
        last.send(HEADERS, END_HEADERS | END_STREAM, 1, &head).await;
        last.until(HEADERS).await;
    }
    Ok(held.len() as u64)
}

/// Four times the headers that may be.
async fn metadata(way: Way, until: Instant) -> anyhow::Result<u64> {
    let value = "a".repeat(200);
    let names: Vec<String> = (0..300).map(|n| format!("x-{n:03}")).collect();
    let more: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), &*value)).collect();
    let block = call(VALIDATE, &more);
    let parts: Vec<&[u8]> = block.chunks(16_384).collect();
    let frames = parts.iter().enumerate().flat_map(|(number, part)| {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let flags = if number + 1 == parts.len() { END_HEADERS } else { 0 };
        Frame::new(kind, flags, 1, part).bytes()
    });
    let bytes: Vec<u8> = frames.chain(Frame::new(GOAWAY, 0, 0, &[0; 8]).bytes()).collect();
    let mut done = 0;
    while Instant::now() < until {
        let mut wire = Wire::open_from(way.from, way.to).await;
        wire.write(&bytes).await;
        let frames = wire.until_closed().await;
        ensure!(frames.iter().all(|frame| frame.kind != DATA), "it was a call");
        done += 1;
    }
    Ok(done)
}

/// A client that comes from this address.
pub fn client(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<SessionServiceClient<Channel>> {
    let connector =
        tower::service_fn(
            move |_: http::Uri| async move { connect(from, to).await.map(TokioIo::new) },
        );
    let endpoint = Channel::from_shared(format!("http://{to}"))?;
    Ok(SessionServiceClient::new(endpoint.connect_with_connector_lazy(connector)))
}

async fn oversize(way: Way, until: Instant) -> anyhow::Result<u64> {
    let mut client = client(way.from, way.to)?;
    let mut done = 0;
    while Instant::now() < until {
        // With the field's own bytes.
        let request_id = "a".repeat((4 << 20) - 4);
        let request = pb::RecordActivitiesRequest { request_id, ..Default::default() };
        // Whatever a client makes of a refusal that comes while it still sends.
        ensure!(client.record_activities(request).await.is_err(), "it was taken");
        done += 1;
    }
    Ok(done)
}

/// Messages with bits turned over; each must be answered.
async fn spoilt(way: Way, count: u32, seed: u64) -> anyhow::Result<u64> {
    let sound = pb::CreateSessionRequest {
        user_id: "eve".to_owned(),
        client_id: "web".to_owned(),
        client: Some(pb::ClientContext {
            ip_address: "2001:db8::1".to_owned(),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sound = sound.encode_to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let mut below = |end: usize| {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % end
    };
    let (mut done, mut wire) = (0, Wire::open_from(way.from, way.to).await);
    let path = "/sessiond.v1.SessionService/CreateSession";
    for number in 0..count {
        let n = number % CALLS;
        if n == 0 {
            wire = Wire::open_from(way.from, way.to).await;
            // Room for all answers.
            wire.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
        }
        let mut bytes = sound.clone();
        for _ in 0..=below(8) {
            let at = below(bytes.len());
            bytes[at] ^= 1 << below(8);
        }
        let head = Frame::new(HEADERS, END_HEADERS, 2 * n + 1, &call(path, &[])).bytes();
        let body = Frame::new(DATA, END_STREAM, 2 * n + 1, &message(&bytes)).bytes();
        wire.write(&[head, body].concat()).await;
        while wire.until(HEADERS).await.flags & END_STREAM == 0 {}
        done += 1;
    }
    Ok(done)
}
