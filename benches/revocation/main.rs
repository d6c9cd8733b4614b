//! How soon other replicas refuse what one has ended, and that none is ever later than the staleness bound.
//!
//! ```text
//! cargo bench --bench revocation                     # about ten minutes
//! cargo bench --bench revocation -- --trials 5000 --json
//! ```
//!
//! Servers as shipped, each a process of its own, on one private Postgres. A trial creates a session, has all replicas
//! know it by heart, ends it on one of them and asks the others until they refuse it. The lag is the time from the
//! moment at which the end was told to the beginning of the first validation that refused. A validation that began the
//! bound or more after that moment and was active is a violation; so is a session that was never ended and is refused.
//! Any violation ends the run with an error.
//!
//! The phases: two replicas, three replicas, and then, with three: the connection that follows the revocations killed
//! again and again; the same connection gone silent on one replica; all of its connections gone silent; one replica
//! stopped for 30 s and continued; Postgres killed and started again; one replica on a machine whose clock is an hour
//! ahead, for which the library of `faketime` is needed (Debian's package `faketime`).

mod phases;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/harness/proxy.rs"]
mod proxy;
mod replica;
mod trial;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::phases::Phase;

/// The longest that the whole may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The staleness bound of the servers.
pub const BOUND: Duration = Duration::from_secs(1);

/// Measures how soon an end is known everywhere.
#[derive(Parser)]
pub struct Args {
    /// Trials of the first phase, and of the second
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    trials: u32,
    /// Trials at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    abreast: u32,
    /// How long each phase with a fault lasts, in seconds
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..=600))]
    faulty: u64,
    /// Only these phases, in this order
    #[arg(long, value_enum, value_delimiter = ',')]
    phases: Vec<Phase>,
    /// Print one line of JSON per phase
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run it with `cargo bench --bench revocation`");
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = tokio::time::timeout(PATIENCE, run(&args)) => done.context("it took too long")?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let mut violations = 0;
    let all = Phase::value_variants();
    let phases = if args.phases.is_empty() { all } else { args.phases.as_slice() };
    for phase in phases {
        let Some(outcome) = phases::run(*phase, args).await? else {
            println!("{}: left out: it needs Debian's package faketime", phase.name());
            continue;
        };
        println!("{}", outcome.describe(phase.name()));
        if args.json {
            println!("{}", outcome.json(phase.name()));
        }
        violations += outcome.violations.len();
    }
    ensure!(violations == 0, "{violations} violations");
    Ok(())
}
