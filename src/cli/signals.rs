//! The signals that a server handles. Of the signals that others usually send, only SIGKILL ends it at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The signals that the server handles.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// If the operating system refuses a handler.
    pub fn listen() -> anyhow::Result<Signals> {
        let to =
            |kind, name: &str| signal(kind).with_context(|| format!("cannot listen for {name}"));
        Ok(Signals {
            terminate: to(SignalKind::terminate(), "SIGTERM")?,
            interrupt: to(SignalKind::interrupt(), "SIGINT")?,
            quit: to(SignalKind::quit(), "SIGQUIT")?,
            hangup: to(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Completes on SIGTERM, SIGINT or SIGQUIT.
    pub async fn stop(&mut self) {
        while self.next().await == Requested::Reload {}
    }

    /// Completes on the same signals; SIGHUP notifies `reload`.
    pub async fn obey(mut self, reload: watch::Sender<()>) {
        while self.next().await == Requested::Reload {
            tracing::info!("SIGHUP: files of certificates and locations that changed are read");
            reload.send_replace(());
        }
    }

    async fn next(&mut self) -> Requested {
        tokio::select! {
            _ = self.terminate.recv() => Requested::Stop,
            _ = self.interrupt.recv() => Requested::Stop,
            _ = self.quit.recv() => Requested::Stop,
            _ = self.hangup.recv() => Requested::Reload,
        }
    }
}

#[derive(PartialEq)]
enum Requested {
    Stop,
    Reload,
}
