//! Certificates that change while they are in use.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{TimeZone, Utc};
use futures_util::future::join_all;
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use sessiond::caller::permissions::Role;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tokio::io::AsyncReadExt;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::callers::grant_with_certificates;
use crate::harness::calls::{new_session, parts, reason};
use crate::harness::pki::{Authority, Files, channel, client_config, connect, uri};
use crate::harness::scrape::{scrape, with_port};
use crate::harness::wire::{NO_ERROR, Wire};
use crate::harness::{TestServer, start_with, wait};

/// The identity of the calling gateway.
const NAME: &str = "spiffe://example/gateway";

/// The GOAWAY codes for an idle connection: first no new calls, then the last stream id.
const IN_GOOD_ORDER: [u32; 2] = [NO_ERROR; 2];

/// The certificate that a new connection gets.
async fn shown(addr: SocketAddr, roots: &[&Authority]) -> CertificateDer<'static> {
    let config = client_config(roots, None, &[&TLS13]);
    let stream = connect(addr, config).await.expect("a connection");
    let chain = stream.get_ref().1.peer_certificates().expect("a chain");
    chain[0].clone().into_owned()
}

async fn validate(channel: Channel, token: &str) -> Result<pb::Outcome, tonic::Status> {
    let access_token = token.to_owned();
    let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
    let answer = SessionServiceClient::new(channel).validate_session(request).await?;
    Ok(answer.into_inner().outcome())
}

/// Validates over one lasting connection and over many new ones until stopped; each call must succeed.
async fn load(
    addr: SocketAddr,
    roots: &[&Authority],
    token: &str,
    stop: &AtomicBool,
    served: &AtomicUsize,
) {
    let config = || client_config(roots, None, &[&TLS12, &TLS13]);
    let lasting = channel(addr, config());
    let call = async |channel| {
        let outcome = validate(channel, token).await.expect("served");
        assert_eq!(outcome, pb::Outcome::Active);
    };
    while !stop.load(Ordering::SeqCst) {
        call(lasting.clone()).await;
        call(channel(addr, config())).await;
        served.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_by_two_replicas_under_load_without_a_failed_call() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let roots = [&old, &new];
    let files = Files::new(&old.server(), None);
    let mut one = start_with(|settings| settings.tls = Some(files.settings(false))).await;
    let config = client_config(&roots, None, &[&TLS13]);
    one.speak_over(channel(one.addr, config));
    let two = one.replica_with(|settings| settings.tls = Some(files.settings(false))).await;
    let (_, token, _) = parts(&one.create("ada").await);
    let (stop, served) = (AtomicBool::new(false), <[AtomicUsize; 4]>::default());
    let progress = async || {
        let read = || [0, 1, 2, 3].map(|n| served[n].load(Ordering::SeqCst));
        let before = read();
        wait::until(async || (0..4).all(|n| read()[n] > before[n] + 2)).await;
    };
    let replacing = async {
        progress().await;
        for authority in [&new, &old, &new] {
            let leaf = authority.server();
            files.write(&leaf);
            for server in [&one, &two] {
                wait::until(async || shown(server.addr, &roots).await == leaf.chain[0]).await;
            }
            progress().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let loads = [one.addr, two.addr, one.addr, two.addr];
    let loads = loads.iter().zip(&served);
    let loads = join_all(loads.map(|(addr, served)| load(*addr, &roots, &token, &stop, served)));
    tokio::join!(loads, replacing);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_leave_the_old_in_use() {
    let authority = Authority::new("server");
    let first = authority.issue(|params| {
        params.subject_alt_names = authority.server_names();
        params.not_after = date_time_ymd(2027, 1, 1);
    });
    let files = Files::new(&first, None);
    let server = start_with(|settings| {
        with_port(settings);
        settings.tls = Some(files.settings(false));
    })
    .await;
    let roots = [&authority];
    let expiry = "sessiond_tls_certificate_expire_time_seconds";
    assert_eq!(scrape(&server).await[expiry], 1_798_761_600.0);
    let other = authority.server();
    let expired = authority.issue(|params| params.not_after = date_time_ymd(2026, 1, 1));
    let whole = first.pem.clone();
    let broken: [(&str, &dyn Fn()); 5] = [
        ("no PEM", &|| files.put("cert.pem", "nonsense")),
        ("cut short", &|| files.put("cert.pem", &whole[..whole.len() / 2])),
        ("of another key", &|| files.put("cert.pem", &other.pem)),
        ("expired", &|| files.write(&expired)),
        ("gone", &|| std::fs::remove_file(files.path("key.pem")).expect("a file")),
    ];
    for (what, break_it) in broken {
        let failures = || failures(&server);
        let before = failures().await;
        break_it();
        wait::until(async || failures().await > before).await;
        assert_eq!(shown(server.addr, &roots).await, first.chain[0], "{what}");
        // Valid again, which is not counted as a failure.
        files.write(&first);
    }
    files.write(&other);
    wait::until(async || shown(server.addr, &roots).await == other.chain[0]).await;
    assert!(scrape(&server).await[expiry] > 1_798_761_600.0);
    // A key that other users may read is not loaded either.
    let before = failures(&server).await;
    crate::harness::pki::expose(&files.path("key.pem"));
    files.put("cert.pem", &first.pem);
    wait::until(async || failures(&server).await > before).await;
}

async fn failures(server: &TestServer) -> f64 {
    scrape(server).await["sessiond_tls_reload_failures_total"]
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_whose_authority_is_taken_away_are_sent_away() {
    let (authority, before, after) =
        (Authority::new("server"), Authority::new("before"), Authority::new("after"));
    let files = Files::new(&authority.server(), Some(&before));
    let mut server = start_with(|settings| {
        settings.tls = Some(files.settings(true));
        // Calls may go on for long. Streams may not.
        settings.edge.connection_grace = Duration::from_secs(600);
    })
    .await;
    let leaf = before.client(&[uri(NAME)]);
    let config = || client_config(&[&authority], Some(&leaf), &[&TLS13]);
    server.speak_over(channel(server.addr, config()));
    let everything = grant_with_certificates(Role::Admin, &["*"]);
    server.manage().set_principal(NAME, &everything).await.expect("a principal");
    wait::until(async || server.try_create(new_session("eve")).await.is_ok()).await;
    let (_, token, _) = parts(&server.create("ada").await);
    server.validate(&token).await;
    let stream = connect(server.addr, config()).await.expect("let in");
    let mut idle = Wire::over(stream).await;
    let mut watcher = server.watch("").await;
    files.put("clients.pem", &after.pem);
    let end = watcher.end().await;
    assert_eq!((end.code(), &*reason(&end)), (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"));
    // An idle connection is closed in good order, and cannot be opened again.
    assert_eq!(idle.until_goodbye().await, IN_GOOD_ORDER);
    wait::until(async || server.try_validate(&token).await.is_err()).await;
    let leaf = after.client(&[uri(NAME)]);
    let config = client_config(&[&authority], Some(&leaf), &[&TLS13]);
    server.speak_over(channel(server.addr, config));
    server.validate(&token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_certificate_of_its_caller() {
    let (authority, clients) = (Authority::new("server"), Authority::new("clients"));
    let files = Files::new(&authority.server(), Some(&clients));
    let server = start_with(|settings| settings.tls = Some(files.settings(false))).await;
    let midnight = date_time_ymd(2026, 3, 15);
    let left = Duration::from_millis(500);
    let at = Utc.timestamp_opt(midnight.unix_timestamp(), 0).single().expect("a time") - left;
    server.advance(at - server.clock.now());
    let leaf = clients.issue(|params| {
        params.subject_alt_names = vec![uri(NAME)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = midnight;
    });
    let begun = Instant::now();
    let config = client_config(&[&authority], Some(&leaf), &[&TLS13]);
    let stream = connect(server.addr, config.clone()).await.expect("TLS");
    assert_eq!(Wire::over(stream).await.until_goodbye().await, IN_GOOD_ORDER);
    assert!(begun.elapsed() >= left, "{:?}", begun.elapsed());
    // From midnight the certificate has expired, and there is no other.
    server.advance(chrono::Duration::seconds(1));
    let stream = connect(server.addr, config).await;
    let refused = match stream {
        Err(_) => true,
        // With TLS 1.3 the client gets the refusal only after its handshake.
        Ok(mut stream) => stream.read(&mut [0; 1]).await.is_err(),
    };
    assert!(refused);
}
