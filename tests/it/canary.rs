//! Canaries: credentials and personal data that calls contain, searched for wherever the service leaves traces.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::process::Signal;
use sessiond::grpc::pb;

use crate::harness::calls::{new_session, parts};
use crate::harness::collector::Collector;
use crate::harness::process::{Place, client};
use crate::harness::scrape;
use crate::secrets::{needles, rows_of};

const USER: &str = "canary.user@example.org";
const AGENT: &str = "CanaryBrowser/77.31";
const CITY: &str = "Canaryville";
const ADDRESS: &str = "203.0.113.77";

/// The write-ahead log of Postgres.
fn wal(data_dir: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(data_dir.join("postgres/pg_wal")).expect("a directory");
    let paths = files.map(|file| file.expect("a file").path()).filter(|path| path.is_file());
    paths.flat_map(|path| std::fs::read(path).expect("a file of its own")).collect()
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle.as_bytes())
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_left_anywhere_and_personal_data_only_in_the_database() {
    let (collector, endpoint) = Collector::start().await;
    let (place, port) = (Place::new(), free_port());
    let http = port.to_string();
    let flags = ["--log", "debug", "--otlp-endpoint", &endpoint, "--http-listen", &http];
    let mut process = place.spawn(&flags, &[]);
    let mut client = client(process.addr().await).await;

    let location = pb::Location { city: CITY.to_owned(), ..Default::default() };
    let context = pb::ClientContext {
        ip_address: ADDRESS.to_owned(),
        user_agent: AGENT.to_owned(),
        location: Some(location),
        ..Default::default()
    };
    let input = pb::CreateSessionRequest { client: Some(context.clone()), ..new_session(USER) };
    let created = client.create_session(input).await.expect("a session");
    let (id, access, first) = parts(created.get_ref());
    let mut tokens = vec![access.clone(), first.clone()];
    let refresh = |refresh_token: &String| pb::RefreshSessionRequest {
        refresh_token: refresh_token.clone(),
        client: Some(context.clone()),
    };
    let mut token = first.clone();
    for _ in 0..2 {
        let refreshed = client.refresh_session(refresh(&token)).await.expect("a successor");
        let next = refreshed.into_inner().tokens.expect("tokens");
        token = next.refresh_token.clone();
        tokens.extend([next.access_token, next.refresh_token]);
    }
    // A valid token, a forged one, and no token at all, from another client context, which is recorded.
    let elsewhere = pb::ClientContext { user_agent: format!("{AGENT} b"), ..context.clone() };
    for access_token in [access.clone(), format!("{access}A"), "no\u{1b}[31m\r\ntoken".to_owned()] {
        let client_context = Some(elsewhere.clone());
        let request = pb::ValidateSessionRequest {
            access_token,
            client: client_context,
            ..Default::default()
        };
        client.validate_session(request).await.expect("a judgement");
    }
    // Refused tokens could reach errors and logs: in the wrong field, too long, and used before.
    let request = pb::GetSessionRequest { session_id: token.clone(), ..Default::default() };
    let refused = client.get_session(request).await.expect_err("no UUID");
    assert!(!format!("{refused:?}").contains(&token), "{refused:?}");
    client.refresh_session(refresh(&first)).await.expect_err("used before");

    let sql = place.connect().await;
    let rows = rows_of(&sql).await;
    assert!(rows.iter().any(|row| row.contains(&id) && row.contains(USER)));
    sql.batch_execute("CHECKPOINT").await.expect("what was written is on the disk");
    let (_, _, scraped) = scrape::request(port, "GET /metrics HTTP/1.1").await;
    assert!(scraped.contains("sessiond_grpc_calls_total"), "{scraped}");
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    let (wal, traces) = (wal(&place.data_dir()), collector.text());
    assert!(holds(&wal, USER), "it is the right place to look");
    assert!(traces.contains("RefreshSession"), "{traces}");

    let mut secrets = needles(&tokens);
    let master_key = std::fs::read_to_string(place.data_dir().join("master.key")).expect("a key");
    secrets.push(master_key.trim().to_owned());
    for secret in &secrets {
        assert!(!holds(&wal, secret), "{secret} is in the WAL");
        assert_eq!(rows.iter().find(|row| row.contains(secret)), None, "{secret} is stored");
    }
    let personal = [USER, AGENT, CITY, ADDRESS].map(str::to_owned);
    for secret in secrets.iter().chain(&personal) {
        for (place, text) in [
            ("log", &ended.err),
            ("output", &ended.out),
            ("traces", &traces),
            ("metrics", &scraped),
        ] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
    assert!(!ended.err.contains('\u{1b}'), "control characters are escaped");
}
