//! Where the database is and how the way there is protected.
//!
//! tokio-postgres knows neither `verify-ca` nor `verify-full`; here every mode that encrypts also
//! verifies, and a remote host without an explicit mode gets `verify-full`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use diesel::{ConnectionError, ConnectionResult};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::Connection;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// A parsed database URL.
pub(super) struct Target {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

impl Target {
    /// Parses `url`: what libpq understands of `host`, `port`, `user`, `password`, `dbname`,
    /// `sslmode` (`disable`, `verify-ca`, `verify-full`; `require` means `verify-full`) and
    /// `sslrootcert` (a PEM file; the system's roots without it).
    pub(super) fn parse(url: &str) -> anyhow::Result<Target> {
        let (url, mode) = take_parameter(url, "sslmode");
        let (url, root) = take_parameter(&url, "sslrootcert");
        let mut config: tokio_postgres::Config =
            url.parse().context("the database URL cannot be read")?;
        let local = config.get_hosts().iter().all(is_local);
        let mode = match mode.as_deref() {
            None if local => "disable",
            None | Some("require") => "verify-full",
            Some(mode @ ("disable" | "verify-ca" | "verify-full")) => mode,
            Some(other) => bail!(
                "sslmode={other} is not supported: use disable, verify-ca or verify-full \
                 (require means verify-full)"
            ),
        };
        let encrypt = mode != "disable";
        config
            .ssl_mode(if encrypt { SslMode::Require } else { SslMode::Disable })
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(Duration::from_secs(5))
            .application_name("sessiond");
        let tls = client_config(encrypt, mode == "verify-ca", root.as_deref())?;
        Ok(Target { config, tls: MakeRustlsConnect::new(tls) })
    }

    pub(super) async fn connect(&self) -> ConnectionResult<Connection> {
        let (client, connection) =
            self.config.connect(self.tls.clone()).await.map_err(|error| {
                let cause = std::error::Error::source(&error).map(|e| format!(": {e}"));
                ConnectionError::BadConnection(format!("{error}{}", cause.unwrap_or_default()))
            })?;
        Connection::try_from_client_and_connection(client, connection).await
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Removes `name=value` from the URL's query and returns the value, percent-decoded nowhere: modes
/// and ordinary paths need none.
fn take_parameter(url: &str, name: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut value = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|part| match part.split_once('=') {
            Some((key, found)) if key == name => {
                value = Some(found.replace("%2F", "/").replace("%2f", "/"));
                false
            }
            _ => true,
        })
        .collect();
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    (format!("{base}{query}"), value)
}

fn client_config(
    encrypt: bool,
    any_name: bool,
    root_file: Option<&str>,
) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match root_file {
        _ if !encrypt => {}
        Some(file) => {
            let read = || format!("sslrootcert: cannot read certificates from {file}");
            for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
        }
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // A broken root among the system's only means that it verifies nothing.
                let _ = roots.add(certificate);
            }
        }
    }
    if encrypt && roots.is_empty() {
        bail!("no root certificate found to verify the database with: set sslrootcert in its URL");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    if !any_name {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(inner)))
        .with_no_client_auth())
}

/// `verify-ca`: the certificate must come from a trusted root, for whatever name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            // webpki checks the name last, so everything else holds here.
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) => Ok(rustls::client::danger::ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, String> {
        Target::parse(url).map(|t| t.config.get_ssl_mode()).map_err(|e| e.to_string())
    }

    #[test]
    fn only_local_hosts_go_without_tls_by_themselves() {
        assert_eq!(mode("postgres://u@127.0.0.1/db"), Ok(SslMode::Disable));
        assert_eq!(mode("postgres:///db?host=/run/pg&user=u"), Ok(SslMode::Disable));
        assert_eq!(mode("postgres://u@db.example/db?sslmode=disable"), Ok(SslMode::Disable));
        assert!(mode("postgres://u@db.example/db?sslmode=prefer").unwrap_err().contains("prefer"));
    }

    #[test]
    fn parameters_of_ours_are_taken_out_of_the_url() {
        let (url, value) = take_parameter("postgres://h/d?a=1&sslmode=verify-ca&b=2", "sslmode");
        assert_eq!(url, "postgres://h/d?a=1&b=2");
        assert_eq!(value.as_deref(), Some("verify-ca"));
        assert_eq!(take_parameter("postgres://h/d", "sslmode").1, None);
    }
}
