//! TLS to the database.
//!
//! tokio-postgres supports neither `verify-ca` nor `verify-full`; here every mode that encrypts also verifies, and a
//! remote host without an explicit mode gets `verify-full`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::CertificateError::{self, NotValidForName, NotValidForNameContext};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The TLS parameters of a URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub mode: Option<String>,
    pub root: Option<String>,
}

/// How to encrypt and what to accept; `None` = plain text, which a `remote` host gets only if the URL asks for it.
///
/// # Errors
/// A mode that is not supported, or certificates that cannot be read.
pub(super) fn client_config(
    parameters: &Parameters,
    remote: bool,
) -> anyhow::Result<Option<ClientConfig>> {
    let root = parameters.root.as_deref();
    let any_name = match parameters.mode.as_deref() {
        Some("disable") if root.is_some() => {
            bail!(
                "the database URL says sslmode=disable and sslrootcert, which contradict each other"
            )
        }
        Some("disable") => return Ok(None),
        None if !remote && root.is_none() => return Ok(None),
        // Any server can have a certificate of a public authority for some name.
        Some("verify-ca") if matches!(root, None | Some("system")) => bail!(
            "sslmode=verify-ca takes a certificate of any name, which the system's roots issue to anybody: \
             use verify-full, or name the file of one authority in sslrootcert"
        ),
        Some("verify-ca") => true,
        None | Some("require" | "verify-full") => false,
        Some(other) => bail!(
            "sslmode={other} is not supported: use disable, verify-ca or verify-full \
             (require means verify-full)"
        ),
    };
    let (mut roots, mut named) = (RootCertStore::empty(), Vec::new());
    match root {
        None | Some("system") => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // A broken root among the system's verifies nothing, and does no harm.
                let _ = roots.add(certificate);
            }
        }
        Some(file) => {
            let read = || format!("sslrootcert: cannot read certificates from {file}");
            for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
                let certificate = certificate.with_context(read)?;
                roots.add(certificate.clone()).with_context(read)?;
                named.push(certificate);
            }
        }
    }
    if roots.is_empty() {
        bail!("no root certificate found to verify the database with: set sslrootcert in its URL");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    Ok(Some(
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { chain, named, any_name }))
            .with_no_client_auth(),
    ))
}

/// Accepts what libpq accepts in `verify-ca` and `verify-full`.
#[derive(Debug)]
struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    /// The certificates of `sslrootcert`. One of them may be the server's own, which no chain leads to.
    named: Vec<CertificateDer<'static>>,
    /// `verify-ca`: accepts any name.
    any_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = if self.named.iter().any(|named| named == end_entity) {
            itself(end_entity, server_name, now)
        } else {
            let chain = &self.chain;
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match verified {
            // Both check the name last, so everything else holds here.
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Verifies a certificate that is trusted as it is: its time and its name.
fn itself(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let parsed = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.tbs_certificate.validity;
    let now = Duration::from_secs(now.as_secs());
    if now < validity.not_before.to_unix_duration() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.to_unix_duration() {
        return Err(CertificateError::Expired.into());
    }
    rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    Ok(ServerCertVerified::assertion())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypts(mode: &str, remote: bool) -> Result<bool, String> {
        with_root(mode, "", remote)
    }

    fn with_root(mode: &str, root: &str, remote: bool) -> Result<bool, String> {
        let stated = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        // Without roots on this machine TLS is refused, for want of them.
        match client_config(&Parameters { mode: stated(mode), root: stated(root) }, remote) {
            Ok(config) => Ok(config.is_some()),
            Err(error) if error.to_string().contains("no root certificate") => Ok(true),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn only_local_hosts_go_without_tls_by_themselves() {
        assert_eq!(encrypts("", false), Ok(false));
        assert_eq!(encrypts("", true), Ok(true));
        assert_eq!(encrypts("disable", true), Ok(false));
        assert_eq!(encrypts("require", false), Ok(true));
        assert!(encrypts("prefer", true).unwrap_err().contains("prefer"));
    }

    #[test]
    fn a_root_asks_for_tls_and_the_systems_roots_for_the_name() {
        assert_eq!(with_root("", "system", false), Ok(true));
        assert_eq!(with_root("verify-full", "system", true), Ok(true));
        assert!(with_root("", "/no/such.pem", false).unwrap_err().contains("/no/such.pem"));
        for (mode, root) in [("verify-ca", "system"), ("verify-ca", "")] {
            assert!(with_root(mode, root, true).unwrap_err().contains("verify-full"));
        }
        for root in ["system", "/no/such.pem"] {
            assert!(with_root("disable", root, true).unwrap_err().contains("contradict"));
        }
    }
}
