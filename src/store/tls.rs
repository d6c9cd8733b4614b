//! How the way to the database is protected.
//!
//! tokio-postgres knows neither `verify-ca` nor `verify-full`; here every mode that encrypts also
//! verifies, and a remote host without an explicit mode gets `verify-full`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::CertificateError::{self, NotValidForName, NotValidForNameContext};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// What a URL says of TLS.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    mode: Option<String>,
    root: Option<String>,
}

impl Parameters {
    /// Takes them out of `url`: tokio-postgres has other meanings for them, or none.
    pub(super) fn take(url: &str) -> anyhow::Result<(String, Parameters)> {
        ensure!(
            url.starts_with("postgres://") || url.starts_with("postgresql://"),
            "the database URL must begin with postgres:// or postgresql://"
        );
        let mut taken = Parameters::default();
        let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), taken)) };
        let mut rest = Vec::new();
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let slot = match name {
                "sslmode" => &mut taken.mode,
                "sslrootcert" => &mut taken.root,
                _ => {
                    rest.push(part);
                    continue;
                }
            };
            ensure!(slot.is_none(), "the database URL says {name} twice");
            *slot = Some(decoded(value).with_context(|| format!("{name} cannot be read"))?);
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{base}{query}"), taken))
    }
}

/// Without its percent signs, as everything else in a URL.
fn decoded(text: &str) -> anyhow::Result<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.context("two hexadecimal digits must follow a %")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).context("it is not UTF-8")
}

/// How to encrypt and what to accept; `None` = plain text, which only a `remote` host never gets unless it is asked
/// for.
///
/// # Errors
/// A mode that is not supported, or certificates that cannot be read.
pub(super) fn client_config(
    parameters: &Parameters,
    remote: bool,
) -> anyhow::Result<Option<ClientConfig>> {
    let any_name = match parameters.mode.as_deref() {
        Some("disable") => return Ok(None),
        None if !remote => return Ok(None),
        Some("verify-ca") => true,
        None | Some("require" | "verify-full") => false,
        Some(other) => bail!(
            "sslmode={other} is not supported: use disable, verify-ca or verify-full \
             (require means verify-full)"
        ),
    };
    let (mut roots, mut named) = (RootCertStore::empty(), Vec::new());
    match parameters.root.as_deref() {
        None | Some("system") => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // A broken root among the system's only means that it verifies nothing.
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
    /// `verify-ca`: whatever the name.
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
        let mode = Some(mode.to_owned()).filter(|mode| !mode.is_empty());
        // Without roots on this machine TLS is refused, for want of them.
        match client_config(&Parameters { mode, root: None }, remote) {
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
    fn parameters_of_ours_are_taken_out_of_the_url() {
        let (url, taken) = Parameters::take(
            "postgres://h/d?a=1&sslmode=verify-ca&b=%20&sslrootcert=/tmp/a%20b%2Fca.pem",
        )
        .unwrap();
        assert_eq!(url, "postgres://h/d?a=1&b=%20");
        assert_eq!(taken.mode.as_deref(), Some("verify-ca"));
        assert_eq!(taken.root.as_deref(), Some("/tmp/a b/ca.pem"));
        assert_eq!(Parameters::take("postgres://h/d").unwrap().1, Parameters::default());
    }

    #[test]
    fn a_url_whose_protection_is_in_doubt_is_refused() {
        for (url, word) in [
            ("postgres://h/d?sslmode=require&sslmode=disable", "sslmode twice"),
            ("postgres://h/d?sslrootcert=a%2", "sslrootcert"),
            ("postgres://h/d?sslrootcert=%ff", "sslrootcert"),
            ("host=127.0.0.1 user=u dbname=d sslmode=require", "postgres://"),
        ] {
            let error = Parameters::take(url).unwrap_err().to_string();
            assert!(error.contains(word), "{url}: {error}");
        }
    }
}
