//! What a validation from memory costs beside an echo that does nothing.
//!
//! ```text
//! cargo bench --bench validate                       # three minutes
//! cargo bench --bench validate -- --sessions 1000000 --rounds 1
//! cargo bench --bench validate -- --sessions 1000000 --rounds 1 --cache-memory 64   # does memory stay flat?
//! cargo bench --bench validate -- --json             # and one line per ratio, for machines
//! ```
//!
//! The control is an echo service, made of the same tonic, the same messages and the same build, which answers each
//! request with the same prepared judgement; it has no layers. The subject is the server as shipped, on a private
//! Postgres. Both are processes of their own, called over loopback by the same callers, by turns: a round is echo, unary
//! validation, streamed validation. The first round only warms up. Every answer is looked at.
//!
//! | ratio | what                                                               | floor | goal |
//! |-------|--------------------------------------------------------------------|-------|------|
//! | P1    | CPU of the echo's process per call / of the server's per validation | 0.80  | 0.92 |
//! | P2    | CPU of the echo's process per call / of the server's per streamed one | 2    | 5    |
//! | P4    | database transactions per validation, less those of an idle while  | 0     | 0    |
//! | P14   | resident bytes of the server per session known by heart            | 400   | 160  |
//!
//! Ratios are taken within a round; their median is the result. Last comes the library's gateway, which validates the
//! same tokens without a call, on one thread.

mod callers;
mod echo;
#[path = "../create/machine.rs"]
mod machine;
mod report;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::callers::Way;
use crate::report::Round;
use crate::subject::Subject;

// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The longest that the whole may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Compares ValidateSession with an echo.
#[derive(Parser)]
pub struct Args {
    /// Sessions whose tokens are asked about
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=2_000_000))]
    sessions: u32,
    /// Validations, and echoes, per round
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    calls: u32,
    /// Rounds that count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Callers at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=512))]
    callers: u32,
    /// Ask for few sessions often (Zipf's law, exponent 1) instead of all alike
    #[arg(long)]
    zipf: bool,
    /// Memory of the server for sessions and tokens, in MiB; room for all of them unless said
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    cache_memory: Option<u32>,
    /// With authenticated callers, who show an API key; the echo is sent it too
    #[arg(long)]
    authenticated: bool,
    /// Print one line of JSON per ratio
    #[arg(long)]
    json: bool,
    /// Be the echo, which answers with this judgement (hex)
    #[arg(long, hide = true)]
    echo: Option<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(judgement) = &args.echo {
        // As many threads as the server has.
        return tokio::runtime::Runtime::new()?.block_on(echo::serve(judgement));
    }
    if !args.bench {
        println!("run it with `cargo bench --bench validate`");
        return Ok(());
    }
    // One thread calls, as fast as one core may.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, run(&args)) => done.context("it took too long")?,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let memory = args.cache_memory.unwrap_or_else(|| (args.sessions / 500).max(64));
    let subject = Subject::start(memory, args.authenticated).await?;
    let empty = subject.resident()?;
    println!("resident: {:.0} MiB without sessions", mebibytes(empty));
    let mut tokens = Vec::new();
    for quarter in 0..4 {
        let to = |quarter: u32| (u64::from(args.sessions) * u64::from(quarter) / 4) as u32;
        tokens.extend(subject.fill(to(quarter)..to(quarter + 1), args.callers).await?);
        let resident = mebibytes(subject.resident()?);
        println!("resident: {resident:.0} MiB with {} sessions", tokens.len());
    }
    let tokens: Arc<[String]> = tokens.into();
    let filled = subject.resident()?;
    let echo =
        echo::Process::start(&subject.judgement(&tokens[0]).await?, subject.key.as_deref()).await?;
    let asked = callers::indices(args.sessions, args.calls, args.zipf);
    let idle = subject.transactions_while(async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(())
    });
    let idle = idle.await? as f64 / 5.0;
    let mut rounds = Vec::new();
    for number in 0..=args.rounds {
        let control = callers::run(&echo.server, Way::Unary, args, &tokens, &asked).await?;
        let mut unary = None;
        let transactions = subject.transactions_while(async || {
            unary = Some(callers::run(&subject.server, Way::Unary, args, &tokens, &asked).await?);
            Ok(())
        });
        let transactions = transactions.await? as f64;
        let unary = unary.context("a round")?;
        let besides = transactions - idle * unary.took.as_secs_f64();
        let streamed = callers::run(&subject.server, Way::Stream, args, &tokens, &asked).await?;
        let round =
            Round { control, transactions: besides / f64::from(args.calls), unary, streamed };
        println!("{}", round.describe(number));
        if number > 0 {
            rounds.push(round);
        }
    }
    let bytes = filled.saturating_sub(empty) as f64 / f64::from(args.sessions);
    let gateway = subject.gateway(&tokens, &asked).await?;
    println!("resident: {:.0} MiB at the end", mebibytes(subject.resident()?));
    report::print(&rounds, bytes, gateway, args.json);
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
