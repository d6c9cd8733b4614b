//! Faults around a gateway of the library: it accepts no invalid token meanwhile, and recovers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sessiond::clock::Clock;
use sessiond::gateway::{Gateway, GatewayOptions, Mode, Verdict};
use sessiond::model::token::InactiveReason;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval_at, timeout};
use tonic::transport::Channel;

use crate::harness::calls::parts;
use crate::harness::cluster::Db;
use crate::harness::{start, start_on, wait};

const BOUND: Duration = Duration::from_secs(1);

async fn gateway(addr: SocketAddr, mode: Mode) -> Gateway {
    let options = GatewayOptions { mode, ..GatewayOptions::new("sessiond") };
    let address = Channel::from_shared(format!("http://{addr}")).expect("an address");
    let channel = address.connect().await.expect("a connection");
    Gateway::connect(channel, options).await.expect("a gateway")
}

fn is_active(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Active(_))
}

/// A proxy to the server whose connections can be cut, and whose new connections can be delayed.
struct Line {
    addr: SocketAddr,
    /// The delay in milliseconds.
    late: Arc<AtomicU64>,
    cut: broadcast::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Line {
    async fn to(server: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (late, cut) = (Arc::new(AtomicU64::new(0)), broadcast::Sender::new(1));
        let (lateness, cuts) = (late.clone(), cut.clone());
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cut = cuts.subscribe();
                let late = Duration::from_millis(lateness.load(Ordering::SeqCst));
                connections.spawn(async move {
                    interval_at(tokio::time::Instant::now() + late, BOUND).tick().await;
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Line { addr, late, cut, accepting }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_be_is_refused_at_once() {
    let server = start().await;
    let options = GatewayOptions { tenant: "a b".to_owned(), ..GatewayOptions::new("sessiond") };
    let refused = Gateway::connect(server.channel(), options).await.err().expect("a refusal");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_past_its_time_is_refused() {
    let server = start().await;
    let (_, token, _) = parts(&server.create("ada").await);
    server.advance(chrono::Duration::minutes(5) + chrono::Duration::seconds(1));
    let gateway = gateway(server.addr, Mode::BestEffort).await;
    assert_eq!(gateway.validate(&token), Verdict::Inactive(InactiveReason::TokenExpired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_know_the_cursor_is_followed_from_the_beginning() {
    let first = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let addr = first.addr;
    let gateway = gateway(addr, Mode::Strict).await;
    first.stop().await;
    // Its keys are others, so the cursors of the first server are invalid.
    let second =
        start_on(Db::fresh().await, Clock::system(), |settings| settings.listen = addr).await;
    let (id, token, _) = parts(&second.create("ada").await);
    wait::until(async || is_active(&gateway.validate(&token))).await;
    second.terminate(&id).await.expect("ok");
    wait::until(async || gateway.validate(&token) == Verdict::Ask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_began_slowly_does_not_look_old_for_ever() {
    let server = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let line = Line::to(server.addr).await;
    let gateway = gateway(line.addr, Mode::Strict).await;
    let (_, token, _) = parts(&server.create("ada").await);
    assert!(is_active(&gateway.validate(&token)));
    // The stream's time request takes longer than the bound.
    line.late.store(1500, Ordering::SeqCst);
    line.cut.send(()).expect("a connection to cut");
    wait::until(async || gateway.validate(&token) == Verdict::Stale).await;
    line.late.store(0, Ordering::SeqCst);
    wait::until(async || is_active(&gateway.validate(&token))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_clock_is_set_forward_does_not_make_old_knowledge_fresh() {
    let server = start().await;
    let gateway = gateway(server.addr, Mode::Strict).await;
    let (id, ended, _) = parts(&server.create("ada").await);
    let (_, token, _) = parts(&server.create("ada").await);
    server.advance(chrono::Duration::seconds(30));
    server.terminate(&id).await.expect("ok");
    // A message that arrived after that time.
    wait::until(async || gateway.validate(&ended) == Verdict::Ask).await;
    drop(server);
    let gone = Instant::now();
    let going_on = async {
        while is_active(&gateway.validate(&token)) {
            // Messages in flight when the server stopped count from their arrival.
            assert!(gone.elapsed() < 2 * BOUND, "active after {:?}", gone.elapsed());
            tokio::task::yield_now().await;
        }
    };
    timeout(20 * BOUND, going_on).await.expect("stale, in 20 seconds");
    assert_eq!(gateway.validate(&token), Verdict::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_clock_is_set_back_is_followed_again() {
    let server = start().await;
    let gateway = gateway(server.addr, Mode::Strict).await;
    server.advance(-chrono::Duration::hours(1));
    wait::until(async || gateway.age().is_some_and(|age| age > 60 * BOUND)).await;
    wait::until(async || gateway.age().is_some_and(|age| age < 60 * BOUND)).await;
}
