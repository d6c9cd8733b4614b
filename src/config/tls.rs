//! The TLS settings of the gRPC port, and the flag to serve without TLS.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

/// The flags.
#[derive(Args, Clone)]
pub struct Tls {
    /// Certificate chain of the gRPC port, leaf first, as PEM; enables TLS. Reloaded when the file changes, like
    /// the files below
    #[arg(long, env = "SESSIOND_TLS_CERT", global = true, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, as PEM; the file must not be readable by others
    #[arg(long, env = "SESSIOND_TLS_KEY", global = true, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Authorities that client certificates are verified against, as PEM; without it none are requested
    #[arg(long, env = "SESSIOND_TLS_CLIENT_CA", global = true, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Refuse connections without a client certificate [default: false]
    #[arg(long, env = "SESSIOND_TLS_CLIENT_REQUIRED", global = true)]
    pub tls_client_required: bool,

    /// Serve on any address without TLS and authenticated callers. Every client that reaches the port may read and
    /// end all sessions [default: false]
    #[arg(long, env = "SESSIOND_DANGEROUSLY_INSECURE", global = true)]
    pub dangerously_insecure: bool,
}

/// The TLS files of the gRPC port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the leaf, then the intermediate certificates.
    pub cert: PathBuf,
    /// PEM: the key of the leaf.
    pub key: PathBuf,
    /// PEM: roots of client certificates; `None` = no client certificate is requested.
    pub client_ca: Option<PathBuf>,
    /// Whether a client certificate is required.
    pub client_required: bool,
}

impl Tls {
    /// The files, if TLS is enabled.
    ///
    /// # Errors
    /// If a flag needs another one that is missing; the text names both.
    pub fn files(&self) -> anyhow::Result<Option<TlsFiles>> {
        if self.tls_client_required && self.tls_client_ca.is_none() {
            bail!("--tls-client-required needs --tls-client-ca: the authorities to verify by");
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Ok(Some(TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: self.tls_client_ca.clone(),
                client_required: self.tls_client_required,
            })),
            (Some(_), None) => bail!("--tls-cert needs --tls-key: the private key that fits it"),
            (None, Some(_)) => bail!("--tls-key needs --tls-cert: the certificate that it fits"),
            (None, None) if self.tls_client_ca.is_some() => {
                bail!("--tls-client-ca needs TLS: give --tls-cert and --tls-key as well")
            }
            (None, None) => Ok(None),
        }
    }
}
