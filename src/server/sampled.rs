//! The metrics of shared parts, most of them sampled at each scrape.

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::session::touch::Touches;
use crate::store::pool::Database;
use crate::telemetry::lines;

/// Registers the metrics of the clock, the log, the touches and the database pool.
pub(super) fn register(
    metrics: &Metrics,
    db: &Database,
    clock: &Clock,
    touches: &Touches,
    insecure: bool,
) {
    let clock = clock.clone();
    let help = "1 = the clock of the database is in doubt, and what cannot be undone waits.";
    metrics.sampled("clock_in_doubt", help, move || f64::from(u8::from(!clock.is_settled())));
    let help =
        "1 = the server does without TLS and authenticated callers (--dangerously-insecure).";
    metrics.sampled("dangerously_insecure", help, move || f64::from(u8::from(insecure)));
    let help =
        "Lines of the log of this process that were dropped, since nobody read standard error.";
    metrics.counted("log_lines_dropped_total", help, lines::dropped);
    let touches = touches.clone();
    let help = "Sessions whose last activity is noted and not written yet.";
    metrics.sampled("touch_backlog", help, move || touches.backlog() as f64);
    let help = "How long was waited for a connection of the pool, in vain too.";
    let waits = metrics.latencies("database_wait_seconds", help, &[]);
    db.measure(waits.with_label_values::<&str>(&[]));
    let (all, idle) = (db.clone(), db.clone());
    let help = "Connections of the pool.";
    metrics.sampled("database_connections", help, move || f64::from(all.connections().0));
    let help = "Connections of the pool that nobody uses.";
    metrics.sampled("database_connections_idle", help, move || f64::from(idle.connections().1));
}
