//! Signals: which end the process in good order, and which do not end it.

use std::path::Path;

use rustix::process::Signal;
use sessiond::grpc::pb;
use sessiond::grpc::pb::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

use crate::harness::MASTER_KEY;
use crate::harness::calls::{new_session, parts};
use crate::harness::cluster::Db;
use crate::harness::process::{Place, client, outcome};
use crate::harness::wait;

#[tokio::test(flavor = "multi_thread")]
async fn quit_is_as_orderly_an_end_as_terminate_and_interrupt() {
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut process = place.spawn(&[], &env);
        let mut client = client(process.addr().await).await;
        let created = client.create_session(new_session("ada")).await.expect("a session");
        let (_, access, _) = parts(created.get_ref());
        assert_eq!(outcome(&mut client, &access).await, pb::Outcome::Active);
        process.signal(signal);
        let ended = process.ended().await;
        assert!(ended.status.success(), "{signal:?}: {:?}", ended.status);
        assert!(ended.err.contains("stopped"), "{signal:?}: {}", ended.err);
    }
}

const LINKOPING: &str = "89.160.20.128";

async fn city(client: &mut SessionServiceClient<Channel>) -> String {
    let from = pb::ClientContext { ip_address: LINKOPING.to_owned(), ..Default::default() };
    let request = pb::CreateSessionRequest { client: Some(from), ..new_session("ada") };
    let created = client.create_session(request).await.expect("a session").into_inner();
    created.session.expect("a session").location.expect("a place").city
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_changed_files_at_once_and_ends_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (places, next) = (dir.path().join("city.mmdb"), dir.path().join("next"));
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geoip");
    let mut file = std::fs::read(from.join("GeoIP2-City-Test.mmdb")).expect("the file");
    std::fs::write(&places, &file).expect("a file");
    let (db, place) = (Db::fresh().await, Place::new());
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let flag = ["--geoip-database", places.to_str().expect("text")];
    let mut process = place.spawn(&flag, &env);
    let mut client = client(process.addr().await).await;
    process.signal(Signal::HUP);
    assert_eq!(city(&mut client).await, "Linköping");

    for at in 0..file.len() {
        if file[at..].starts_with("Linköping".as_bytes()) {
            file[at] = b'W';
        }
    }
    std::fs::write(&next, &file).expect("a file");
    std::fs::rename(&next, &places).expect("the usual way of updating");
    process.signal(Signal::HUP);
    // Without the signal the file is checked once a minute.
    wait::until(async || city(&mut client).await == "Winköping").await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
}
