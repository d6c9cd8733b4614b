//! The connection to a remote Postgres: encrypted, and verified.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sessiond::store::pool::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::cluster::Db;

/// A certificate authority that no system trusts.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a root");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("root.pem"), issuer.pem()).expect("a file");
        Authority { issuer, dir }
    }

    fn root(&self) -> String {
        self.dir.path().join("root.pem").display().to_string()
    }

    /// Listens as a Postgres whose certificate is for `name`, in front of `db`.
    async fn listen(&self, name: &str, db: &Db) -> SocketAddr {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        serve(Some(acceptor(certificate.der().clone(), &key)), db).await
    }
}

/// A self-signed certificate for these names, valid until this year, and the port of its Postgres.
async fn self_signed(names: &[&str], until: i32, db: &Db) -> (tempfile::TempDir, u16) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    // As `openssl req -x509` makes it.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let dir = tempfile::Builder::new().prefix("a b").tempdir().expect("a directory");
    std::fs::write(dir.path().join("root.pem"), certificate.pem()).expect("a file");
    let acceptor = acceptor(certificate.der().clone(), &key);
    (dir, serve(Some(acceptor), db).await.port())
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("its key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a matching key");
    TlsAcceptor::from(Arc::new(config))
}

/// Answers SSLRequest, with TLS if there is an acceptor, and forwards everything to `db`.
async fn serve(acceptor: Option<TlsAcceptor>, db: &Db) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("a port");
    let config: tokio_postgres::Config = db.url.parse().expect("a URL");
    let [tokio_postgres::config::Host::Unix(dir)] = config.get_hosts() else {
        panic!("the tests' Postgres listens on a Unix socket");
    };
    let socket = dir.join(".s.PGSQL.5432");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that refuses the certificate disconnects, which some tests expect.
            tokio::spawn(forward(client, acceptor.clone(), socket.clone()));
        }
    });
    addr
}

async fn forward(
    mut client: TcpStream,
    acceptor: Option<TlsAcceptor>,
    socket: impl AsRef<Path>,
) -> std::io::Result<()> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    let mut server = UnixStream::connect(socket).await?;
    let Some(acceptor) = acceptor else {
        client.write_all(b"N").await?;
        return Ok(());
    };
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Whether a connection with these parameters of the URL works.
async fn connects(db: &Db, port: u16, parameters: &str) -> bool {
    refusal(db, port, parameters).await.is_none()
}

/// The error of such a connection, if it fails.
async fn refusal(db: &Db, port: u16, parameters: &str) -> Option<String> {
    let name = db.url.split('?').next().and_then(|url| url.rsplit('/').next()).expect("a name");
    let url = format!("postgres://sessiond@localhost:{port}/{name}?{parameters}");
    // If this machine has no root certificates, a URL that names none is refused at once.
    match Database::new(&url, 1) {
        Ok(db) => db.begin().await.err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_must_be_for_the_name_and_from_a_trusted_root() {
    let db = Db::fresh().await;
    let authority = Authority::new();
    let port = authority.listen("localhost", &db).await.port();
    let root = authority.root();
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(connects(&db, port, &format!("sslmode={mode}&sslrootcert={root}")).await, "{mode}");
        assert!(!connects(&db, port, &format!("sslmode={mode}")).await, "{mode} without root");
        let foreign = Authority::new();
        let root = foreign.root();
        assert!(
            !connects(&db, port, &format!("sslmode={mode}&sslrootcert={root}")).await,
            "{mode}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_passes_only_where_the_name_does_not_count() {
    let db = Db::fresh().await;
    let authority = Authority::new();
    let port = authority.listen("db.example", &db).await.port();
    let root = authority.root();
    assert!(!connects(&db, port, &format!("sslmode=verify-full&sslrootcert={root}")).await);
    assert!(!connects(&db, port, &format!("sslmode=require&sslrootcert={root}")).await);
    assert!(connects(&db, port, &format!("sslmode=verify-ca&sslrootcert={root}")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let db = Db::fresh().await;
    let authority = Authority::new();
    let root = authority.root();
    let port = serve(None, &db).await.port();
    assert!(!connects(&db, port, &format!("sslmode=verify-full&sslrootcert={root}")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_that_the_root_file_holds_is_accepted() {
    let db = Db::fresh().await;
    let (dir, port) = self_signed(&["localhost"], 4000, &db).await;
    let root = dir.path().join("root.pem").display().to_string().replace(' ', "%20");
    for mode in ["verify-ca", "verify-full", "require"] {
        assert_eq!(refusal(&db, port, &format!("sslmode={mode}&sslrootcert={root}")).await, None);
    }
    // The certificate is for another name.
    let (other, port) = self_signed(&["db.example"], 4000, &db).await;
    let root = other.path().join("root.pem").display().to_string().replace(' ', "%20");
    assert!(connects(&db, port, &format!("sslmode=verify-ca&sslrootcert={root}")).await);
    let refused = refusal(&db, port, &format!("sslmode=verify-full&sslrootcert={root}")).await;
    assert!(refused.expect("another name").contains("certificate"));
    let (old, port) = self_signed(&["localhost"], 2020, &db).await;
    let root = old.path().join("root.pem").display().to_string().replace(' ', "%20");
    let refused = refusal(&db, port, &format!("sslmode=verify-ca&sslrootcert={root}")).await;
    assert!(refused.expect("an old one").contains("xpired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_accepted_is_named_with_its_host() {
    let db = Db::fresh().await;
    let (_dir, port) = self_signed(&["localhost"], 4000, &db).await;
    let foreign = Authority::new();
    let root = foreign.root();
    let refused = refusal(&db, port, &format!("sslmode=verify-ca&sslrootcert={root}")).await;
    let refused = refused.expect("nobody's certificate");
    for word in ["localhost port", "invalid peer certificate"] {
        assert!(refused.contains(word), "no {word} in {refused}");
    }
}
