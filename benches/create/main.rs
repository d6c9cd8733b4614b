//! What a create costs beside the plain SQL that does the same.
//!
//! ```text
//! cargo bench --bench create              # two minutes; needs pgbench, of Postgres' own programs
//! cargo bench --bench create -- --json    # and one line per ratio, for machines
//! ```
//!
//! The control is `pgbench -M prepared` with the naive transaction of five statements and a commit
//! (`control.rs`); the subject is the real server, as its own process, called over loopback. Both
//! work on the same tables of one private Postgres with fsync on, filled anew before each of them,
//! and take turns: a round is control and subject under load, then both with one caller. The
//! first round only warms up.
//!
//! | ratio | what                                                              | floor | goal |
//! |-------|-------------------------------------------------------------------|-------|------|
//! | P5    | creates per second / transactions per second of the control       | 1.0   | 3    |
//! | P7    | p50 of a create with one caller / p50 of the control's one client | 1.6   | 1.0  |
//! | P8    | writing transactions per create under load                        | 1     | 0.25 |
//!
//! Ratios are taken within a round, and their median over the rounds is the result. Figures hold
//! for the machine and the moment; a run whose control moved by more than 5 % says so, and is to
//! be made again when less else is going on. CPU is time of processes: of Postgres with all its
//! children, of the server, and of the callers (here, or pgbench).

mod callers;
mod cluster;
mod control;
mod machine;
mod report;
mod subject;

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::Cluster;
use crate::control::Control;
use crate::report::Round;
use crate::subject::Subject;

/// The longest that the whole may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Compares CreateSession with a naive transaction on the same Postgres.
#[derive(Parser)]
struct Args {
    /// Creates, and transactions of the control, per round under load
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    creates: u32,
    /// The same with one caller
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    alone: u32,
    /// Rounds that count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Callers at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=80))]
    callers: u32,
    /// Print one line of JSON per ratio
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

// One thread calls, as fast as one core may: the others are the server's and the database's.
#[tokio::main(worker_threads = 1)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run it with `cargo bench --bench create`");
        return Ok(());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    // Whatever happens, `run` is dropped, and with it the server and Postgres.
    tokio::select! {
        done = tokio::time::timeout(PATIENCE, run(&args)) => done.context("it took too long")?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let control = Control::new(&cluster)?;
    let subject = Subject::start(&cluster).await?;
    println!("{}", cluster.describe().await?);
    println!(
        "{} creates by {} callers and {} by one, per round",
        args.creates, args.callers, args.alone
    );
    let mut rounds = Vec::new();
    for number in 0..=args.rounds {
        let round = round(args, &cluster, &control, &subject).await?;
        println!("{}", round.describe(number));
        if number > 0 {
            rounds.push(round);
        }
    }
    report::print(&rounds, args.json);
    Ok(())
}

async fn round(
    args: &Args,
    cluster: &Cluster,
    control: &Control,
    subject: &Subject,
) -> anyhow::Result<Round> {
    cluster.refill().await?;
    let loaded_control = control.run(cluster, args.callers, args.creates).await?;
    cluster.refill().await?;
    let loaded_subject = subject.run(cluster, args.callers, args.creates).await?;
    let lone_control = control.run(cluster, 1, args.alone).await?;
    let lone_subject = subject.run(cluster, 1, args.alone).await?;
    Ok(Round { loaded_control, loaded_subject, lone_control, lone_subject })
}
