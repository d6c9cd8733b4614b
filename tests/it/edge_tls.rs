//! TLS on the gRPC port: accepted clients, and the identity in a certificate.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use h2::client::handshake;
use http::{Request, Response};
use hyper::body::Incoming;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use sessiond::config::edge::EdgeLimits;
use sessiond::edge::tls::Certificates;
use sessiond::edge::{Edge, ServeCalls};
use sessiond::metrics::Metrics;
use sessiond::model::caller::Identity;
use sessiond::model::caller::connection::CallerConnection;
use sessiond::supervise::Tasks;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::pki::{Authority, Files, Leaf, client_config, connect, dns, uri};
use crate::harness::{clock, start_with};

/// A port that answers with the caller's identity.
async fn mirror(files: &Files, required: bool) -> (SocketAddr, DropGuard) {
    let metrics = Metrics::default();
    let tasks = Tasks::new(&metrics);
    let certificates = Certificates::open(files.settings(required), &clock(), &metrics);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (addr, drain) = (listener.local_addr().expect("a port"), CancellationToken::new());
    let certificates = Some(certificates.expect("sound files"));
    let edge = Edge::new(listener, EdgeLimits::default(), certificates, &metrics, drain.clone());
    tokio::spawn(async move { edge.run(&metrics, &tasks, Mirror, Duration::ZERO).await });
    (addr, drain.drop_guard())
}

#[derive(Clone)]
struct Mirror;

impl ServeCalls for Mirror {
    type Body = String;
    type Call = Ready<Result<Response<String>, Infallible>>;

    fn call(&self, connection: &Arc<CallerConnection>, _: Request<Incoming>) -> Self::Call {
        assert!(connection.address.ip().is_loopback());
        ready(Ok(Response::new(format!("{:?}", connection.identity()))))
    }
}

/// The answer of the mirror over this connection.
async fn ask(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<String, h2::Error> {
    let (client, connection) = handshake(io).await?;
    // An error of the connection also fails the call.
    tokio::spawn(connection);
    let request = Request::get("http://sessiond/").body(()).expect("a request");
    let (answer, _) = client.ready().await?.send_request(request, true)?;
    let mut body = answer.await?.into_body();
    let mut text = Vec::new();
    while let Some(more) = body.data().await {
        text.extend_from_slice(&more?);
    }
    Ok(String::from_utf8(text).expect("text"))
}

/// The identity of a caller with this certificate, in both versions of TLS; `None` if the handshake fails.
async fn seen(addr: SocketAddr, server: &Authority, shown: Option<&Leaf>) -> Option<String> {
    let mut said = Vec::new();
    for version in [&TLS12, &TLS13] {
        let config = client_config(&[server], shown, &[version]);
        // With TLS 1.3 a client gets the refusal only after its handshake.
        let answer = match connect(addr, config).await {
            Ok(stream) => ask(stream).await.ok(),
            Err(_) => None,
        };
        said.push(answer);
    }
    assert_eq!(said[0], said[1], "both versions say the same");
    said.pop().flatten()
}

fn named(name: &str) -> Option<String> {
    Some(format!("{:?}", Identity::Certificate(name.to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_its_one_uri_or_else_its_one_host() {
    let (server, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&server.server(), Some(&clients));
    let (addr, _running) = mirror(&files, false).await;
    let unknown = Some(format!("{:?}", Identity::Unknown));
    assert_eq!(seen(addr, &server, None).await, unknown);
    let spiffe = "spiffe://example/gateway";
    for (names, expected) in [
        (vec![uri(spiffe)], spiffe),
        (vec![dns("Gateway.Example")], "gateway.example"),
        (vec![dns("a.example"), uri(spiffe), dns("b.example")], spiffe),
    ] {
        let leaf = clients.client(&names);
        assert_eq!(seen(addr, &server, Some(&leaf)).await, named(expected), "{names:?}");
    }
    for (names, why) in [
        (vec![uri(spiffe), uri("spiffe://example/login")], "2 URIs"),
        (vec![uri(spiffe), uri(spiffe)], "2 URIs"),
        (vec![uri(spiffe), uri("spiffe://example/login"), dns("a.example")], "2 URIs"),
        (vec![dns("a.example"), dns("b.example")], "2 DNS names"),
        (vec![dns("*.example")], "wildcards"),
        (vec![uri("no-scheme")], "visible characters"),
        (vec![uri("spiffe://a b")], "visible characters"),
        (vec![uri(&format!("spiffe://{}", "a".repeat(300)))], "256"),
        (vec![], "neither"),
        (vec![rcgen::SanType::IpAddress("127.0.0.1".parse().expect("one"))], "neither"),
    ] {
        let leaf = clients.client(&names);
        let said = seen(addr, &server, Some(&leaf)).await.expect("it gets in, without a name");
        assert!(said.starts_with("Nameless") && said.contains(why), "{names:?}: {said}");
        assert!(!said.contains("common.example"), "a common name is no name: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_other_authorities_are_refused() {
    let (server, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&server.server(), Some(&clients));
    let names = [uri("spiffe://example/gateway")];
    let good = clients.client(&names);
    let client_auth = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issue = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        clients.issue(|params| {
            params.subject_alt_names = names.to_vec();
            params.extended_key_usages = client_auth.clone();
            change(params);
        })
    };
    let bad = [
        ("another authority", Authority::new("clients").client(&names)),
        ("expired", issue(&|params| params.not_after = date_time_ymd(2026, 3, 13))),
        ("not valid yet", issue(&|params| params.not_before = date_time_ymd(2026, 3, 16))),
        (
            "for servers",
            issue(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "an authority itself",
            issue(&|params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
        ("issued by a leaf", clients.client(&names).misused(&names)),
    ];
    for required in [false, true] {
        let (addr, _running) = mirror(&files, required).await;
        let expected = named("spiffe://example/gateway");
        assert_eq!(seen(addr, &server, Some(&good)).await, expected);
        for (what, leaf) in &bad {
            assert_eq!(seen(addr, &server, Some(leaf)).await, None, "{what}");
        }
        let without = seen(addr, &server, None).await;
        assert_eq!(without.is_some(), !required);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tls_of_today_and_only_http_2_is_spoken() {
    let server = Authority::new("server");
    let files = Files::new(&server.server(), None);
    let (addr, _running) = mirror(&files, false).await;
    let mut old = client_config(&[&server], None, &[&TLS12, &TLS13]);
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    connect(addr, old).await.expect_err("HTTP/1.1 only");
    connect(addr, client_config(&[&Authority::new("other")], None, &[&TLS13]))
        .await
        .expect_err("the client does not trust it");
    let mut silent = client_config(&[&server], None, &[&TLS13]);
    silent.alpn_protocols.clear();
    let stream = connect(addr, silent).await.expect("a client that names no protocol");
    ask(stream).await.expect("and speaks HTTP/2");
    let plain = TcpStream::connect(addr).await.expect("a connection");
    ask(plain).await.expect_err("without TLS");
    // The first bytes of TLS 1.1, which no client here can send: rustls does not support it.
    let mut ancient = TcpStream::connect(addr).await.expect("a connection");
    let hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x02";
    let body = [&hello[..], &[7; 32], b"\x00\x00\x02\x00\x2f\x01\x00"].concat();
    ancient.write_all(&body).await.expect("a hello");
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut ancient, &mut answer).await.expect("an alert");
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_server_speaks_tls() {
    let authority = Authority::new("server");
    let files = Files::new(&authority.server(), None);
    let mut server = start_with(|settings| settings.tls = Some(files.settings(false))).await;
    let config = client_config(&[&authority], None, &[&TLS12, &TLS13]);
    server.speak_over(crate::harness::pki::channel(server.addr, config));
    let (id, access, _) = crate::harness::calls::parts(&server.create("ada").await);
    server.validate(&access).await;
    server.terminate(&id).await.expect("ok");
    server.stop().await;
}
