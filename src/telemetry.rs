//! Logs, to standard error: text for people, JSON for machines; and traces, to a collector. No bodies, no tokens.
//! Neither blocks a call, and each delays the end of the process only for a bounded time.

pub mod lines;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod quota;

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

/// The telemetry of a process. [`Telemetry::finish`] sends the queued traces.
#[must_use = "without it the last traces are lost"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    sender: Option<otlp::Sender>,
}

/// The most time to write the last log lines, and to send the last traces. Together with the time that jobs get to
/// end, this is less than the 4 s in which a server stops after its drain.
const LINES_END: Duration = Duration::from_millis(300);
#[cfg(feature = "otlp")]
const TRACES_END: Duration = Duration::from_millis(600);

/// Starts logging, also of panics, and tracing if a collector is configured; once per process, within a runtime.
///
/// # Errors
/// If the log filter or the endpoint of the collector is invalid.
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
    /// Sends the queued traces, if a collector is configured. Blocks, for a bounded time.
    pub fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(sender) = self.sender {
            sender.finish(TRACES_END);
        }
    }
}

/// Writes the failure, if any, and flushes the log. Blocks, for a bounded time.
pub fn end(failure: Option<&anyhow::Error>) {
    if let Some(error) = failure {
        let _ = lines::Stderr.write_all(format!("sessiond: {error:#}\n").as_bytes());
    }
    lines::flush(LINES_END);
}

/// Logs a panic. The standard library's hook would write to standard error directly, and could block.
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
