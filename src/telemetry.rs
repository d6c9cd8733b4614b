//! Logs, to standard error: text for people, JSON for machines; and traces, to a collector. No bodies, no tokens.
//! Neither ever holds up a call, nor the end of the process for long.

pub mod lines;
#[cfg(feature = "otlp")]
pub mod otlp;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::time::Duration;

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, LogFormat};
use crate::supervise::words;

/// Ends the telemetry of a process: what is queued is sent.
#[must_use = "without it the last traces are lost"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    sender: Option<otlp::Sender>,
}

/// How long the last lines of the log may take to be written, and the last traces to be sent. With what jobs may take
/// to end it is less than the 4 s in which a server stops after its drain.
const LINES_END: Duration = Duration::from_millis(300);
#[cfg(feature = "otlp")]
const TRACES_END: Duration = Duration::from_millis(600);

/// Starts logging, also of panics, and tracing where there is a collector; once per process, within a runtime.
///
/// # Errors
/// A filter that cannot be read, or an endpoint that cannot be.
pub fn start(config: &Config) -> anyhow::Result<Telemetry> {
    std::panic::set_hook(Box::new(report));
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
    /// Sends what is queued, if there is a collector that takes it. Blocks, for a bounded time.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(sender) = self.sender {
            sender.finish(TRACES_END);
        }
    }
}

/// Says why the process ends, where it does not end well, and has the last lines written. Blocks, for a bounded time.
pub fn end(failure: Option<&anyhow::Error>) {
    if let Some(error) = failure {
        let _ = lines::Stderr.write_all(format!("sessiond: {error:#}\n").as_bytes());
    }
    lines::flush(LINES_END);
}

/// A panic is a line of the log: the standard library would wait for standard error.
fn report(panic: &PanicHookInfo<'_>) {
    let words = words(panic.payload());
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let current = std::thread::current();
    let thread = current.name().unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!(at, thread, %backtrace, "panicked: {words}");
        }
        _ => tracing::error!(at, thread, "panicked: {words}"),
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
    let logs = tracing_subscriber::fmt::layer().with_writer(|| lines::Stderr);
    match json {
        true => logs.json().flatten_event(true).boxed(),
        false => logs.with_ansi(terminal).boxed(),
    }
}
