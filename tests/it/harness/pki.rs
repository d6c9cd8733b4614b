//! Authorities and certificates, valid and invalid, and clients that use them.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use sessiond::config::tls::TlsFiles;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub der: CertificateDer<'static>,
}

/// A certificate, its chain to the root, and its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub pem: String,
    pub key: KeyPair,
    params: CertificateParams,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        let (pem, der) = (root.pem(), root.der().clone());
        Authority { issuer: Issuer::new(params, key), pem, der }
    }

    /// Issues a leaf with the parameters that `change` sets.
    pub fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { chain: vec![leaf.der().clone()], pem: leaf.pem(), key, params }
    }

    /// The names of this machine.
    pub fn server_names(&self) -> Vec<SanType> {
        let local = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        CertificateParams::new(local).expect("names").subject_alt_names
    }

    /// A leaf for servers on this machine.
    pub fn server(&self) -> Leaf {
        self.issue(|params| {
            params.subject_alt_names = self.server_names();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// A leaf for a client with these alternative names.
    pub fn client(&self, names: &[SanType]) -> Leaf {
        self.issue(|params| {
            params.subject_alt_names = names.to_vec();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.distinguished_name.push(DnType::CommonName, "common.example");
        })
    }
}

impl Leaf {
    /// Issues a certificate from a leaf, which is not an authority.
    pub fn misused(self, names: &[SanType]) -> Leaf {
        let Leaf { chain, pem, key, params } = self;
        let forged = Authority { issuer: Issuer::new(params, key), pem, der: chain[0].clone() };
        let mut leaf = forged.client(names);
        leaf.chain.extend(chain);
        leaf
    }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}

/// The files of a server.
pub struct Files {
    pub dir: tempfile::TempDir,
}

impl Files {
    /// The files of `leaf`, and, if given, of the authority of the clients.
    pub fn new(leaf: &Leaf, clients: Option<&Authority>) -> Files {
        let files = Files { dir: tempfile::tempdir().expect("a directory") };
        files.write(leaf);
        if let Some(clients) = clients {
            files.put("clients.pem", &clients.pem);
        }
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The server's settings for these files.
    pub fn settings(&self, client_required: bool) -> TlsFiles {
        let client_ca = Some(self.path("clients.pem")).filter(|path| path.exists());
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        TlsFiles { cert, key, client_ca, client_required }
    }

    /// Replaces certificate and key, one after the other.
    pub fn write(&self, leaf: &Leaf) {
        self.put("key.pem", &leaf.key.serialize_pem());
        self.put("cert.pem", &leaf.pem);
    }

    /// Replaces one file as a whole.
    pub fn put(&self, name: &str, text: &str) {
        let aside = self.path("aside");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside);
        std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("written");
        std::fs::rename(&aside, self.path(name)).expect("a new file");
    }
}

/// Makes a file readable by everyone.
pub fn expose(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(file, open).expect("our file");
}

/// A client with these roots, certificate and versions.
pub fn client_config(
    roots: &[&Authority],
    shown: Option<&Leaf>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut trusted = RootCertStore::empty();
    for root in roots {
        trusted.add(root.der.clone()).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("known versions")
        .with_root_certificates(trusted);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).expect("its key");
            builder.with_client_auth_cert(leaf.chain.clone(), key).expect("a matching key")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The first bytes of a client that speaks TLS.
pub fn hello() -> Vec<u8> {
    let config = client_config(&[&Authority::new("any")], None, &[&rustls::version::TLS13]);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    hello
}

pub async fn connect(
    addr: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A channel that connects with this configuration.
pub fn channel(addr: SocketAddr, config: ClientConfig) -> Channel {
    let connector = tower::service_fn(move |_: http::Uri| {
        let config = config.clone();
        async move { connect(addr, config).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    endpoint.connect_with_connector_lazy(connector)
}
