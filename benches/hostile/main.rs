//! What hostile peers cost everybody else: validations of one honest caller, alone and during each attack.
//!
//! ```text
//! cargo bench --bench hostile                           # nine minutes
//! cargo bench --bench hostile -- --seconds 4 --rounds 1 --json
//! ```
//!
//! The server is the one that is shipped, a process of its own on a private Postgres. An honest caller validates a token
//! over one connection, one question after the other, from a thread of its own; the attackers have another. For each
//! attack the honest p99 is divided by the mean of those of quiet times around it; the goal is 5 at most. Every
//! honest answer must be good. At the end the server must live, and have the memory and the connections that it
//! had after a first round of all attacks, give or take. The attackers' thread has the lowest priority, since they
//! would have machines of their own; `--nice 0` lets them compete with the server for its processors.

mod attacks;
mod greedy;
mod honest;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/harness/pki.rs"]
mod pki;
mod server;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/harness/wire.rs"]
mod wire;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rustix::process::{Resource, Rlimit};

use crate::attacks::Attack;
use crate::greedy::Greed;
use crate::honest::Honest;
use crate::server::{Kind, Server};

/// The longest that the whole may take.
const PATIENCE: Duration = Duration::from_secs(1200);
/// What memory may differ by, in bytes: the allocator gives back no page that is partly used, and a crowd has many.
const SLACK: u64 = 96 << 20;

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
    /// How often all of it is done; memory may not grow after the first time, which fills the caches
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only attacks with this in their name
    #[arg(long, default_value = "")]
    only: String,
    /// Spoilt messages
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    spoilt: u32,
    /// Priority of the attackers: what a process takes from others on one machine is not what it takes from another
    #[arg(long, default_value_t = 19, value_parser = clap::value_parser!(i32).range(0..=19))]
    nice: i32,
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
    // The crowd needs a descriptor each.
    let limits = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: limits.maximum, ..limits };
    rustix::process::setrlimit(Resource::Nofile, most)?;
    let kinds = [
        (Kind::Callers, Trouble::all(&Greed::ALL, Trouble::Greed)),
        (Kind::Plain, Trouble::all(&Attack::PLAIN, Trouble::Attack)),
        (Kind::Tls, Trouble::all(&Attack::TLS, Trouble::Attack)),
    ];
    for (kind, mut attacks) in kinds {
        attacks.retain(|attack| attack.name().contains(&args.only));
        if attacks.is_empty() {
            continue;
        }
        let server = Server::start(args.crowd, kind)?;
        let honest = Honest::start(&server)?;
        let attackers = || {
            // On Linux that of this thread; those that it came after keep theirs.
            rustix::process::nice(args.nice)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let attacked = attacked(&args, server, honest, &attacks);
                tokio::time::timeout(PATIENCE, attacked).await.context("it took too long")?
            })
        };
        let done = std::thread::scope(|scope| scope.spawn(attackers).join());
        done.map_err(|_| anyhow::anyhow!("the attackers panicked"))??;
    }
    Ok(())
}

/// Something that the server has to bear.
#[derive(Clone, Copy)]
enum Trouble {
    Attack(Attack),
    Greed(Greed),
}

impl Trouble {
    fn all<T: Copy>(of: &[T], make: fn(T) -> Trouble) -> Vec<Trouble> {
        of.iter().copied().map(make).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Trouble::Attack(attack) => attack.name(),
            Trouble::Greed(greed) => greed.name(),
        }
    }

    async fn run(self, server: &Server, args: &Args, lasting: Duration) -> anyhow::Result<u64> {
        match self {
            Trouble::Attack(attack) => attack.run(server, args, lasting).await,
            Trouble::Greed(greed) => greed.run(server, lasting).await,
        }
    }
}

async fn attacked(
    args: &Args,
    mut server: Server,
    honest: Honest,
    attacks: &[Trouble],
) -> anyhow::Result<()> {
    let lasting = Duration::from_secs(args.seconds);
    // Once, so that whatever is made at first use is there.
    for attack in attacks {
        attack.run(&server, args, Duration::from_secs(1)).await?;
    }
    server.calm().await?;
    let before = server.resident()?;
    println!("resident {} MiB before", before >> 20);
    let mut quiet = honest.over(async { sleep(lasting).await }).await?;
    let (mut worst, mut filled): (f64, Option<u64>) = (0.0, None);
    for round in 1..=args.rounds {
        for attack in attacks {
            let mut done = 0;
            let kept_out = server.metric(KEPT_OUT)?;
            let during = honest
                .over(async {
                    done = attack.run(&server, args, lasting).await?;
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
        if let Some(filled) = filled {
            server.slims(filled + SLACK).await?;
        }
        let resident = server.resident()?;
        filled.get_or_insert(resident);
        println!("resident {} MiB after round {round}", resident >> 20);
    }
    println!("honest p99 at most {worst:.2} times its quiet value");
    drop(honest);
    server.end()
}

async fn sleep(lasting: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(lasting).await;
    Ok(())
}
