//! TLS on the gRPC port, and the one way around it.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

/// The flags.
#[derive(Args, Clone)]
pub struct Tls {
    /// Certificate of the gRPC port and those that lead to its root, as PEM; with it the port speaks
    /// TLS. Read again when it changes, like the files below
    #[arg(long, env = "SESSIOND_TLS_CERT", global = true, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, as PEM; nobody else may read it
    #[arg(long, env = "SESSIOND_TLS_KEY", global = true, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Authorities that vouch for certificates of callers, as PEM; without it callers show none
    #[arg(long, env = "SESSIOND_TLS_CLIENT_CA", global = true, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Refuse connections without a certificate of the caller [default: false]
    #[arg(long, env = "SESSIOND_TLS_CLIENT_REQUIRED", global = true)]
    pub tls_client_required: bool,

    /// Serve on any address without TLS and for unknown callers. Every client that reaches the port
    /// may read and end all sessions [default: false]
    #[arg(long, env = "SESSIOND_DANGEROUSLY_INSECURE", global = true)]
    pub dangerously_insecure: bool,
}

/// The files of a port that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the leaf, then what leads to its root.
    pub cert: PathBuf,
    /// PEM: the key of the leaf.
    pub key: PathBuf,
    /// PEM: roots of client certificates; `None` = callers are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a caller must have one.
    pub client_required: bool,
}

impl Tls {
    /// The files, if the port shall speak TLS.
    ///
    /// # Errors
    /// A flag that needs another one, by their names.
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
