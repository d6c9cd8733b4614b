//! Errors at the start of the binary: each says what to do.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use sessiond::token::seal::MasterKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::MASTER_KEY;
use crate::harness::cluster::Db;
use crate::harness::pki::{Authority, Files, expose};
use crate::harness::process::Place;
use crate::harness::wait;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_reach_needs_tls_and_known_callers() {
    let place = Place::new();
    let authority = Authority::new("server");
    let files = Files::new(&authority.server(), Some(&authority));
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051"] {
        let flags = ["--listen", listen];
        let words = ["--listen", listen, "--tls-cert", "loopback", "--dangerously-insecure"];
        place.spawn(&flags, &[]).ended().await.assert_refused(&words);
        let flags = [&flags[..], &tls].concat();
        let words = ["--listen", listen, "not authenticated", "--tls-client-ca"];
        place.spawn(&flags, &[]).ended().await.assert_refused(&words);
    }
    let words = ["--http-listen", "loopback", "agent"];
    place.spawn(&["--http-listen", "0.0.0.0:0"], &[]).ended().await.assert_refused(&words);
    assert!(!place.data_dir().exists(), "nothing was set up for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_tls_are_held_to_their_rules() {
    let place = Place::new();
    let (authority, other) = (Authority::new("server"), Authority::new("other"));
    let files = Files::new(&authority.server(), Some(&authority));
    files.put("other.pem", &other.server().pem);
    files.put("text.pem", "nonsense");
    let old = authority.issue(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    files.put("old.pem", &old.pem);
    let path = |name: &str| text(&files.path(name)).to_owned();
    let (cert, key, text_file) = (path("cert.pem"), path("key.pem"), path("text.pem"));
    let (other, old, gone) = (path("other.pem"), path("old.pem"), path("gone.pem"));
    let cases: [(&[&str], &[&str]); 11] = [
        (&["--tls-cert", &cert], &["--tls-cert", "--tls-key"]),
        (&["--tls-key", &key], &["--tls-key", "--tls-cert"]),
        (&["--tls-client-ca", &cert], &["--tls-client-ca", "--tls-cert"]),
        (&["--tls-client-required"], &["--tls-client-required", "--tls-client-ca"]),
        (&["--tls-cert", &gone, "--tls-key", &key], &["--tls-cert", &gone, "cannot be read"]),
        (&["--tls-cert", &text_file, "--tls-key", &key], &["--tls-cert", &text_file, "PEM"]),
        (&["--tls-cert", &cert, "--tls-key", &text_file], &["--tls-key", &text_file, "PKCS"]),
        (&["--tls-cert", &other, "--tls-key", &key], &["--tls-key", &key, "does not fit"]),
        (&["--tls-cert", &old, "--tls-key", &key], &["--tls-cert", &old, "expired at 2020"]),
        (
            &["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &text_file],
            &["--tls-client-ca", &text_file, "PEM"],
        ),
        (&["--tls-cert", "/", "--tls-key", &key], &["--tls-cert /", "is no file"]),
    ];
    for (flags, words) in cases {
        place.spawn(flags, &[]).ended().await.assert_refused(words);
    }
    let env = [("SESSIOND_TLS_CLIENT_REQUIRED", "true")];
    place.spawn(&[], &env).ended().await.assert_refused(&["--tls-client-ca"]);
    expose(&files.path("key.pem"));
    let flags = ["--tls-cert", &*cert, "--tls-key", &*key];
    let words = ["--tls-key", &*key, "read by others", "chmod 600"];
    place.spawn(&flags, &[]).ended().await.assert_refused(&words);
    let file = files.path("master.key");
    files.put("master.key", &MasterKey::generate());
    expose(&file);
    let flags = ["--master-key-file", text(&file)];
    let env = [("DATABASE_URL", "postgres:///x")];
    let words = [text(&file), "read by others", "chmod 600"];
    place.spawn(&flags, &env).ended().await.assert_refused(&words);
    assert!(!place.data_dir().exists(), "nothing was set up for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_that_is_none_is_refused() {
    let place = Place::new();
    let zeros = STANDARD.encode([0; 32]);
    let repeating = STANDARD.encode([0xa5, 0x5a].repeat(16));
    let example = STANDARD.encode(b"change me, I am only an example!");
    for key in [&zeros, &repeating, &example] {
        let env = [("DATABASE_URL", "postgres:///x"), ("SESSIOND_MASTER_KEY", key)];
        let ended = place.spawn(&[], &env).ended().await;
        ended.assert_refused(&["--master-key", "not random", "openssl rand -base64 32"]);
        assert!(!ended.err.contains(key.as_str()), "it repeats a secret: {}", ended.err);
    }
}

/// Keys in our own documentation and examples must not be valid.
#[test]
fn no_file_here_holds_a_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("tests"), root.join("deploy"), root.join("docs")];
    let mut files = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("our folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 50);
    for file in files {
        let bytes = std::fs::read(&file).expect("our file");
        let text = String::from_utf8_lossy(&bytes);
        let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        for word in text.split(|c: char| !of_base64(c)).filter(|word| word.len() == 44) {
            assert!(MasterKey::parse(word).is_err(), "{}: {word}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_forgets_what_it_acknowledged_is_refused() {
    let db = Db::fresh().await;
    let name = "SELECT current_database()";
    let admin = db.connect().await;
    let name: String = admin.query_one(name, &[]).await.expect("a name").get(0);
    let forget = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    admin.batch_execute(&forget).await.expect("a setting");
    let env = [("DATABASE_URL", db.url.as_str()), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    let place = Place::new();
    let words = ["synchronous_commit = off", "ALTER", "synchronous_commit = on"];
    place.spawn(&[], &env).ended().await.assert_refused(&words);
    // Then with the right setting. That the tests' Postgres runs without fsync is worth a warning.
    let remember = format!("ALTER DATABASE {name} RESET synchronous_commit");
    admin.batch_execute(&remember).await.expect("a setting");
    let mut process = place.spawn(&[], &env);
    process.addr().await;
    process.signal(Signal::TERM);
    let ended = process.ended().await;
    assert!(ended.status.success(), "{}", ended.err);
    assert!(ended.err.contains("fsync = off"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_do_without_protection_is_said_in_the_log_and_shown_in_the_metrics() {
    let db = Db::fresh().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = port.local_addr().expect("a port").to_string();
    drop(port);
    let env = [
        ("DATABASE_URL", db.url.as_str()),
        ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str()),
        ("SESSIOND_HTTP_LISTEN", http.as_str()),
    ];
    for (flags, shown) in [(&["--dangerously-insecure"][..], "1"), (&[], "0")] {
        let place = Place::new();
        let mut process = place.spawn(flags, &env);
        process.addr().await;
        let mut body = String::new();
        wait::until(async || {
            let Ok(mut stream) = TcpStream::connect(&http).await else { return false };
            let head = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            stream.write_all(head).await.is_ok() && stream.read_to_string(&mut body).await.is_ok()
        })
        .await;
        let line = format!("\nsessiond_dangerously_insecure {shown}\n");
        assert!(body.contains(&line), "{body}");
        process.signal(Signal::TERM);
        let ended = process.ended().await;
        assert_eq!(ended.err.contains("--dangerously-insecure"), shown == "1", "{}", ended.err);
    }
}
