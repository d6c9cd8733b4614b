//! Builds the TLS configuration from the files: versions 1.2 and 1.3, HTTP/2 only, no session resumption.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Loaded, Now};
use crate::clock::{Clock, Time};
use crate::config::file::{self, refuse_if_readable_by_others};
use crate::config::tls::TlsFiles;
use crate::edge::identity::valid_until;

/// The largest file that is accepted; a bundle of all public authorities has a quarter of that.
const MAX_BYTES: u64 = 1 << 20;

/// Loads the files and checks that they fit each other.
///
/// # Errors
/// If a file cannot be read or used; the text names the flag and the file.
pub(super) fn load(files: &TlsFiles, clock: &Clock) -> anyhow::Result<Loaded> {
    let chain = of("--tls-cert", &files.cert, chain)?;
    let expires = of("--tls-cert", &files.cert, |_| expiry(&chain, clock))?;
    let key = of("--tls-key", &files.key, key)?;
    let authorities = match &files.client_ca {
        Some(path) => Some(of("--tls-client-ca", path, authorities)?),
        None => None,
    };
    let (bytes, roots) = authorities.unzip();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = match roots {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(roots) => verifier(roots, files.client_required, &provider)
            .context("--tls-client-ca cannot be used")?,
    };
    let time = Arc::new(Now(clock.clone()));
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .with_context(|| format!("--tls-key {} does not fit --tls-cert", files.key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the verification of the client certificate, and long-lived connections gain little.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Ok(Loaded { acceptor, expires, authorities: bytes, withdrawn: CancellationToken::new() })
}

fn verifier(
    roots: RootCertStore,
    required: bool,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    // A client certificate that is presented is always verified, even where none is required.
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    Ok(builder.build()?)
}

fn of<T>(
    flag: &str,
    path: &Path,
    read: impl FnOnce(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    read(path).with_context(|| format!("{flag} {}", path.display()))
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let (bytes, _) = file::read(path, MAX_BYTES, "1 MiB")?;
    certificates(&bytes)
}

fn certificates(bytes: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let read = read.map_err(|error| anyhow!("is no sound PEM: {error}"))?;
    ensure!(!read.is_empty(), "holds no certificate (PEM, -----BEGIN CERTIFICATE-----)");
    Ok(read)
}

fn expiry(chain: &[CertificateDer<'_>], clock: &Clock) -> anyhow::Result<Time> {
    let expires = chain.first().and_then(valid_until).context("is no certificate")?;
    ensure!(clock.now() < expires, "expired at {expires}: renew it");
    Ok(expires)
}

fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let (bytes, _) = file::read(path, MAX_BYTES, "1 MiB")?;
    refuse_if_readable_by_others(path)?;
    // The parser's error is dropped: it might contain parts of the key.
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| anyhow!("holds no private key (PEM, PKCS #8, SEC 1 or PKCS #1, unencrypted)"))
}

fn authorities(path: &Path) -> anyhow::Result<(Vec<u8>, RootCertStore)> {
    let (bytes, _) = file::read(path, MAX_BYTES, "1 MiB")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&bytes)? {
        roots.add(certificate).context("holds a certificate that cannot be a root")?;
    }
    Ok((bytes, roots))
}
