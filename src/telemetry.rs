//! Logs, to standard error: text for people, JSON for machines; and traces, to a collector. No bodies, no tokens.

#[cfg(feature = "otlp")]
pub mod otlp;

use std::io::IsTerminal;

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};

/// Ends the telemetry of a process: what is queued is sent.
#[must_use = "without it the last traces are lost"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    sender: Option<otlp::Sender>,
}

/// Starts logging, and tracing where there is a collector; once per process, within a runtime.
///
/// # Errors
/// A filter that cannot be read, or an endpoint that cannot be.
pub fn start(config: &Config) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(&config.log)
        .context("--log: must be a filter such as info or info,sessiond=debug")?;
    let subscriber = tracing_subscriber::registry().with(filter).with(logs(config.log_format));
    #[cfg(feature = "otlp")]
    {
        let to = |endpoint: &String| otlp::Sender::to(endpoint, config.otlp_ratio);
        let sender = config.otlp_endpoint.as_ref().map(to).transpose()?;
        subscriber.with(sender.as_ref().map(otlp::Sender::layer)).init();
        Ok(Telemetry { sender })
    }
    #[cfg(not(feature = "otlp"))]
    {
        subscriber.init();
        Ok(Telemetry {})
    }
}

impl Telemetry {
    /// Sends what is queued, if there is a collector. Blocks.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(sender) = self.sender {
            sender.finish();
        }
    }
}

fn logs<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match json {
        true => logs.json().flatten_event(true).boxed(),
        false => logs.with_ansi(terminal).boxed(),
    }
}
