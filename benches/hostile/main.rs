//! What hostile peers cost everybody else: validations of one honest caller, alone and during each attack.
//!
//! ```text
//! cargo bench --bench hostile                        # three minutes
//! cargo bench --bench hostile -- --seconds 5 --json
//! ```
//!
//! The server is the one that is shipped, a process of its own on a private Postgres. An honest caller validates a token
//! over one connection, one question after the other, from a thread of its own; the attackers have another. For each
//! attack the honest p99 is divided by the median of those of quiet times around it; the goal is 5 at most. Every
//! honest answer must be good. At the end the server must live, and have the memory and the connections that it
//! had after a first round of all attacks, give or take.

mod attacks;
mod honest;
mod server;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/harness/wire.rs"]
mod wire;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rustix::process::{Resource, Rlimit};

use crate::attacks::Attack;
use crate::honest::Honest;
use crate::server::Server;

/// The longest that the whole may take.
const PATIENCE: Duration = Duration::from_secs(1200);
/// What memory may differ by, in bytes: that of the allocator's caches.
const SLACK: u64 = 64 << 20;

/// Connections of peers that come too often.
const KEPT_OUT: &str = "sessiond_connections_refused_total{limit=\"rate\"}";

/// Measures what attacks cost others.
#[derive(Parser)]
pub struct Args {
    /// How long each attack, and each quiet time, lasts
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Connections of the crowd that idles
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    crowd: u32,
    /// Spoilt messages
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    spoilt: u32,
    /// Print one line of JSON per attack
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.bench {
        println!("run it with `cargo bench --bench hostile`");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, run(&args)).await.context("it took too long")?
    })
}

async fn run(args: &Args) -> anyhow::Result<()> {
    // The crowd needs a descriptor each.
    let limits = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(Resource::Nofile, most)?;
    let mut server = Server::start(args.crowd)?;
    let honest = Honest::start(server.addr)?;
    let lasting = Duration::from_secs(args.seconds);
    // Once, so that whatever is made at first use is there.
    for attack in Attack::ALL {
        attack.run(server.addr, args, Duration::from_secs(1)).await?;
    }
    server.calm().await?;
    let before = server.resident()?;
    println!("resident {} MiB before", before >> 20);
    let mut quiet = honest.over(async { sleep(lasting).await }).await?;
    let mut worst: f64 = 0.0;
    for attack in Attack::ALL {
        let mut done = 0;
        let kept_out = server.metric(KEPT_OUT)?;
        let during = honest
            .over(async {
                done = attack.run(server.addr, args, lasting).await?;
                Ok(())
            })
            .await?;
        server.calm().await?;
        let after = honest.over(async { sleep(lasting).await }).await?;
        let ratio = during.p99 / ((quiet.p99 + after.p99) / 2.0);
        worst = worst.max(ratio);
        let name = attack.name();
        let kept_out = server.metric(KEPT_OUT)? - kept_out;
        println!(
            "{name}: {done} times, {kept_out} kept out; honest p99 {:.2} ms of {} calls, quiet {:.2} and {:.2} ms: {ratio:.2}; resident {} MiB",
            during.p99 * 1e3,
            during.calls,
            quiet.p99 * 1e3,
            after.p99 * 1e3,
            server.resident()? >> 20,
        );
        if args.json {
            println!("{{\"attack\":\"{name}\",\"times\":{done},\"ratio\":{ratio:.3}}}");
        }
        quiet = after;
    }
    server.slims(before + SLACK).await?;
    println!(
        "resident {} MiB after; honest p99 at most {worst:.2} times its quiet value",
        server.resident()? >> 20
    );
    drop(honest);
    server.end()
}

async fn sleep(lasting: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(lasting).await;
    Ok(())
}
