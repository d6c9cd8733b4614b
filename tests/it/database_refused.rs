//! A database that cannot be used, and ambiguous settings: the error names the cause.

use std::path::Path;

use rustix::process::Signal;

use crate::harness::MASTER_KEY;
use crate::harness::cluster::{Db, own_cluster};
use crate::harness::pooler::Pooler;
use crate::harness::process::Place;
use crate::harness::wait::until;

/// Every kind of command that uses a database.
const COMMANDS: [&[&str]; 4] = [&["serve"], &["migrate"], &["keys", "list"], &["api-key", "list"]];

async fn assert_refused(place: &Place, command: &[&str], url: &str, words: &[&str]) {
    let env = [("DATABASE_URL", url), ("SESSIOND_MASTER_KEY", MASTER_KEY.as_str())];
    place.spawn(command, &env).ended().await.assert_refused(words);
}

/// A port that nothing listens on.
fn refused_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("a port").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_way_to_the_database_is_said_by_every_command() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let admin = db.connect().await;
    admin.batch_execute("CREATE ROLE ada LOGIN PASSWORD 'right'").await.expect("a role");
    let hba = postgres.data_dir().join("postgres/pg_hba.conf");
    std::fs::write(hba, "local all sessiond trust\nlocal all all scram-sha-256\n").expect("a file");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("a reload");
    let as_ada = db.url.replace("user=sessiond", "user=ada");
    // The reload takes effect after a moment.
    until(async || tokio_postgres::connect(&as_ada, tokio_postgres::NoTls).await.is_err()).await;

    let place = Place::new();
    let port = refused_port();
    let cases: [(String, &[&str]); 4] = [
        (format!("{as_ada}&password=wrong"), &["28P01", "password", "ada"]),
        (db.url.replace("/sessiond?", "/nowhere?"), &["3D000", "no such database", "nowhere"]),
        (format!("postgres://u:p@127.0.0.1:{port}/d"), &["127.0.0.1 port", "refused"]),
        ("postgres://u:p@nowhere.invalid/d?sslmode=disable".to_owned(), &["nowhere.invalid"]),
    ];
    for (url, words) in &cases {
        for command in COMMANDS {
            assert_refused(&place, command, url, words).await;
        }
    }
    assert!(!place.data_dir().exists(), "nothing was set up for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_would_be_honoured_by_half_is_refused_by_name() {
    let place = Place::new();
    let cases: [(&str, &[&str]); 6] = [
        ("host=127.0.0.1 user=u sslmode=require", &["postgres://"]),
        ("postgres://u@127.0.0.1/d?sslmode=require&sslmode=disable", &["sslmode twice"]),
        ("postgres://u@127.0.0.1/d?host=db.example.org", &["host twice"]),
        ("postgres://u@127.0.0.1/d?sslcert=/tmp/c.pem", &["does not support sslcert"]),
        ("postgres://u@127.0.0.1/d?sslmode=disable&sslrootcert=/a%20b", &["contradict"]),
        ("postgres://u@127.0.0.1/d?sslrootcert=/no%20such/ca.pem", &["/no such/ca.pem"]),
    ];
    for (url, words) in cases {
        for command in COMMANDS {
            assert_refused(&place, command, url, words).await;
        }
    }
    assert!(!place.data_dir().exists(), "nothing was set up for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_hold_all_of_unicode_is_refused_by_its_encoding() {
    let (postgres, _dir) = own_cluster().await;
    let db = Db::of(&postgres);
    let admin = db.connect().await;
    let place = Place::new();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let create = format!(
            "CREATE DATABASE odd_{encoding} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        );
        admin.batch_execute(&create).await.expect("a database");
        let url = db.url.replace("/sessiond?", &format!("/odd_{}?", encoding.to_lowercase()));
        for command in COMMANDS {
            assert_refused(&place, command, &url, &[encoding, "UTF8", "CREATE DATABASE"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_lends_sessions_for_a_transaction_is_refused() {
    let db = Db::fresh().await;
    let pooler = Pooler::before(&db.url).await;
    let place = Place::new();
    for command in COMMANDS {
        assert_refused(&place, command, &pooler.url, &["pooler", "pool_mode", "by session"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_setting_that_holds_no_single_value_is_refused_by_name() {
    let place = Place::new();
    let dir = tempfile::tempdir().expect("a directory");
    let url = "postgres://u:secret@127.0.0.1:1/d";
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("empty", Vec::new(), "is empty"),
        ("blank", b" \n\n".to_vec(), "is empty"),
        ("mark", format!("\u{feff}{url}\n").into_bytes(), "byte order mark"),
        ("lines", format!("{url}\n{url}\n").into_bytes(), "more than one line"),
        ("nul", format!("{url}\0\n").into_bytes(), "control"),
        ("wide", url.encode_utf16().flat_map(u16::to_le_bytes).collect(), "control"),
        ("large", vec![b'x'; (64 << 10) + 1], "larger than 64 KiB"),
    ];
    for (name, bytes, rule) in cases {
        let file = dir.path().join(name);
        write(&file, &bytes);
        let path = file.to_str().expect("a plain path");
        for (setting, flag, command) in [
            ("DATABASE_URL_FILE", "--database-url-file", &["serve"][..]),
            ("DATABASE_URL_FILE", "--database-url-file", &["keys", "list"]),
            ("SESSIOND_MASTER_KEY_FILE", "--master-key-file", &["serve"]),
        ] {
            let ended = place.spawn(command, &[(setting, path)]).ended().await;
            ended.assert_refused(&[flag, path, rule]);
            assert!(!ended.err.contains("secret"), "{}", ended.err);
        }
    }
}

/// Writes a file that only its owner may read.
fn write(file: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, bytes).expect("a file");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("our file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_with_a_line_end_is_taken() {
    let place = Place::new();
    let db = Db::fresh().await;
    let files = tempfile::tempdir().expect("a directory");
    let (url, key) = (files.path().join("url"), files.path().join("key"));
    write(&url, format!("{}\r\n", db.url).as_bytes());
    write(&key, format!("{}\n", *MASTER_KEY).as_bytes());
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let (url, key) = (text(&url), text(&key));
    let env = [("DATABASE_URL_FILE", url.as_str()), ("SESSIOND_MASTER_KEY_FILE", key.as_str())];
    let mut process = place.spawn(&["serve"], &env);
    process.addr().await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.status.success());
}
