//! One run: start everything, calls and faults, final validations, restart everything, read the tables, check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::args::Args;
use crate::callers;
use crate::check;
use crate::history::{History, Left};
use crate::judge::Judge;
use crate::nemesis::{self, Log};
use crate::pause;
use crate::record::{Op, Outcome};
use crate::replica::BOUND;
use crate::tables::Tables;
use crate::ticker::Ticker;
use crate::watch;
use crate::world::World;

/// In a run of this length every check must check something.
const LONG: Duration = Duration::from_secs(60);

/// True if no invariant is broken.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    println!("--seconds {} --seed {} --callers {}", args.time.as_secs(), args.seed, args.callers);
    let world = World::start(args.seed).await?;
    let ticker = Ticker::start(world.epoch);
    let watches = watch::begin(&world).await;
    let calling: Vec<_> = (0..args.callers)
        .map(|caller| tokio::spawn(callers::run(Arc::clone(&world), caller)))
        .collect();
    let log = Arc::new(Log::default());
    let mut troubling = JoinSet::new();
    if !args.calm {
        if world.disk.is_none() {
            eprintln!("the disk is never full: a tmpfs of its own may not be mounted here");
        }
        troubling.spawn(nemesis::trouble_replicas(Arc::clone(&world), Arc::clone(&log)));
        troubling.spawn(nemesis::trouble_database(Arc::clone(&world), Arc::clone(&log)));
    }
    pause(args.time).await;
    world.over.store(true, Ordering::SeqCst);
    for caller in join_all(calling).await {
        caller?;
    }
    // Each removes its faults at the end.
    while let Some(ended) = troubling.join_next().await {
        ended?;
    }
    world.until_serving().await?;
    pause(BOUND).await;
    callers::look_at_all(&world, args.callers).await;
    if args.restarts {
        restart_all(&world).await?;
        callers::look_at_all(&world, args.callers).await;
    }
    let gaps = ticker.stop();
    let read_at = world.epoch.now();
    let tables = Tables::read(&world).await?;
    let watches = watch::until_caught_up(&watches, &tables).await;
    let ops = world.recorder.take();
    world.replicas.iter().for_each(|replica| replica.kill());

    let history = History::new(Left { ops, tables, gaps, watches, read_at });
    let mut judge = Judge::default();
    check::all(&history, &mut judge);
    count(&history.ops);
    log.show(judge.violations() > 0);
    let longest = history.gaps.iter().map(|gap| gap.length).max().unwrap_or(0);
    println!("machine: the longest time that it did not run us was {longest} us");
    judge.show(&history);
    let idle = judge.idle();
    if !idle.is_empty() {
        println!("checks that judged nothing: {}", idle.join(", "));
    }
    let violations = judge.violations();
    println!("violated: {}", judge.broken().join(", "));
    println!("{violations} violations, --seed {}", args.seed);
    // In a short run some checks may have nothing to check.
    Ok(violations == 0 && (idle.is_empty() || args.time < LONG))
}

/// Kills all replicas and Postgres, and starts them again.
async fn restart_all(world: &World) -> anyhow::Result<()> {
    world.replicas.iter().for_each(|replica| replica.kill());
    world.restart_postgres();
    let starting = world.replicas.iter().map(|replica| replica.start(chrono::Duration::zero()));
    join_all(starting).await;
    world.until_serving().await
}

/// Calls by kind and outcome.
fn count(ops: &[Op]) {
    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for op in ops {
        let counts = counts.entry(op.what.name()).or_default();
        counts[match op.outcome {
            Outcome::Ok(_) => 0,
            Outcome::No(..) => 1,
            Outcome::Unknown(_) => 2,
        }] += 1;
    }
    println!("calls: kind, ok, refused, unknown");
    for (kind, [ok, no, unknown]) in counts {
        println!("  {kind:<22} {ok:>7} {no:>7} {unknown:>7}");
    }
}
