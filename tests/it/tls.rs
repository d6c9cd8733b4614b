//! The way to a remote Postgres: encrypted, and verified.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use sessiond::store::pool::Database;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::cluster::Db;

/// A certificate authority that nobody else trusts.
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
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("its key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a matching key");
        serve(Some(TlsAcceptor::from(Arc::new(config))), db).await
    }
}

/// Answers SSLRequest, with TLS if it has an acceptor, and passes everything on to `db`.
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
            // A client that refuses our certificate goes away: that is what is tested.
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
    let name = db.url.split('?').next().and_then(|url| url.rsplit('/').next()).expect("a name");
    let url = format!("postgres://sessiond@localhost:{port}/{name}?{parameters}");
    // Without any root on this machine, a URL that names none is refused at once.
    let Ok(db) = Database::new(&url, 1) else { return false };
    db.ping().await.is_ok()
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
