//! The certificates of the gRPC port in their newest valid state, and the TLS acceptor built from them.

mod load;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use prometheus::IntCounter;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Time};
use crate::config::file::Stamp;
use crate::config::tls::TlsFiles;
use crate::metrics::Metrics;

/// The certificate files, reloaded when they change.
pub struct Certificates {
    files: TlsFiles,
    clock: Clock,
    current: RwLock<Arc<Loaded>>,
    /// The stamps of the files at the last load, whether it succeeded or not.
    seen: Mutex<FileStamps>,
    broken: IntCounter,
}

/// The stamp of each file: certificate, key, authorities.
type FileStamps = [Option<Stamp>; 3];

/// One valid state of the files.
pub struct Loaded {
    pub acceptor: TlsAcceptor,
    /// When the certificate expires.
    pub expires: Time,
    /// The bytes of the client CA file.
    authorities: Option<Vec<u8>>,
    /// Cancelled when the client CA file is replaced by another: clients that were verified against it must reconnect.
    pub withdrawn: CancellationToken,
}

/// Validates the files before anything is set up for them.
///
/// # Errors
/// If a file cannot be read or used; the text names the flag and the file.
pub fn check(files: &TlsFiles, clock: &Clock) -> anyhow::Result<()> {
    load::load(files, clock).map(drop)
}

impl Certificates {
    /// Loads the files.
    ///
    /// # Errors
    /// If a file cannot be read or used; the text names the flag and the file.
    pub fn open(files: TlsFiles, clock: &Clock, metrics: &Metrics) -> anyhow::Result<Arc<Self>> {
        let seen = stamps(&files);
        let loaded = Arc::new(load::load(&files, clock)?);
        let help = "Times that changed certificate files could not be used; the old stayed.";
        let certificates = Arc::new(Certificates {
            files,
            clock: clock.clone(),
            current: RwLock::new(loaded),
            seen: Mutex::new(seen),
            broken: metrics.counter("tls_reload_failures_total", help),
        });
        let help = "Time at which the certificate in use expires, in seconds since 1970.";
        let shown = certificates.clone();
        metrics.sampled("tls_certificate_expire_time_seconds", help, move || {
            shown.current().expires.timestamp() as f64
        });
        Ok(certificates)
    }

    /// The state that new connections use.
    pub fn current(&self) -> Arc<Loaded> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time left until `until`; zero if it has passed.
    pub fn left(&self, until: Time) -> Duration {
        (until - self.clock.now()).to_std().unwrap_or_default()
    }

    /// Reloads the files if one changed. If they cannot be used, the failure is logged and the old certificates stay,
    /// such as while the certificate was replaced and the key not yet. Blocks while it reads.
    pub fn reload(&self) {
        let mut seen = self.seen();
        let there = stamps(&self.files);
        if *seen == there {
            return;
        }
        // The stamps precede the reading, so a file that changes during it is reloaded at the next turn.
        *seen = there;
        match load::load(&self.files, &self.clock) {
            Ok(loaded) => self.replace(loaded),
            Err(error) => {
                self.broken.inc();
                let error = format!("{error:#}");
                tracing::error!(error, "cannot use the new certificates; the old stay");
            }
        }
    }

    fn replace(&self, loaded: Loaded) {
        let expires = loaded.expires;
        let loaded = Arc::new(loaded);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, loaded.clone());
        drop(current);
        if before.authorities != loaded.authorities {
            before.withdrawn.cancel();
        }
        tracing::info!(%expires, "new certificates are in use");
    }

    fn seen(&self) -> MutexGuard<'_, FileStamps> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &TlsFiles) -> FileStamps {
    let authorities = files.client_ca.as_deref().and_then(Stamp::at);
    [Stamp::at(&files.cert), Stamp::at(&files.key), authorities]
}

/// The clock that client certificates are verified against: the one of the whole server.
struct Now(Clock);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().timestamp()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
