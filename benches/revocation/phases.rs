//! What goes wrong while the trials run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use rustix::process::Signal;
use tokio_postgres::NoTls;

use crate::Args;
use crate::proxy::{Mode, Proxy};
use crate::replica::{self, Database, Replica};
use crate::trial::{self, Outcome};

/// A phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    Two,
    Three,
    Killed,
    Deaf,
    CutOff,
    Stopped,
    Restarted,
    Ahead,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Two => "two replicas",
            Phase::Three => "three replicas",
            Phase::Killed => "feed killed again and again",
            Phase::Deaf => "feed of one gone silent",
            Phase::CutOff => "one cut off now and then",
            Phase::Stopped => "one stopped for 30 s",
            Phase::Restarted => "Postgres killed and started",
            Phase::Ahead => "the clock of one an hour ahead",
        }
    }
}

/// Runs a phase on servers of its own; `None` if something is missing here.
pub async fn run(phase: Phase, args: &Args) -> anyhow::Result<Option<Outcome>> {
    let skew = match phase {
        Phase::Ahead => match replica::faketime() {
            Some(library) => Some(library),
            None => return Ok(None),
        },
        _ => None,
    };
    let database = Database::start()?;
    let proxy = Proxy::before(&database.url());
    let mut replicas = Vec::new();
    let count = if phase == Phase::Two { 2 } else { 3 };
    for number in 0..count {
        // The last one is reached through the wire that can be damaged.
        let last = number == count - 1;
        let url = if last { proxy.url.clone() } else { database.url() };
        let skew = skew.filter(|_| last);
        replicas.push(Replica::start(database.dir.path(), number, &url, skew).await?);
    }
    let faulty = !matches!(phase, Phase::Two | Phase::Three);
    let left = Arc::new(AtomicU32::new(if faulty { u32::MAX } else { args.trials }));
    let stop = Arc::new(AtomicBool::new(false));
    let trials: Vec<_> = (0..args.abreast)
        .map(|caller| {
            let clients = replicas.iter().map(Replica::client).collect();
            let (left, stop) = (left.clone(), stop.clone());
            tokio::spawn(async move { trial::many(clients, caller, &left, &stop).await })
        })
        .collect();
    let harm = harm(phase, args, &database, &proxy, &replicas);
    let harmed = harm.await;
    if faulty {
        stop.store(true, Ordering::Relaxed);
    }
    let mut outcome = Outcome::default();
    for trial in trials {
        outcome.add(trial.await??);
    }
    harmed?;
    Ok(Some(outcome))
}

async fn harm(
    phase: Phase,
    args: &Args,
    database: &Database,
    proxy: &Proxy,
    replicas: &[Replica],
) -> anyhow::Result<()> {
    let pause = |millis| tokio::time::sleep(Duration::from_millis(millis));
    let turns = args.faulty;
    match phase {
        Phase::Two | Phase::Three => {}
        Phase::Ahead => pause(turns * 1000).await,
        Phase::Killed => {
            let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await?;
            tokio::spawn(connection);
            for _ in 0..turns * 2 {
                pause(500).await;
                client
                    .batch_execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid()
                            AND query ILIKE '%revocations r%'",
                    )
                    .await?;
            }
        }
        Phase::Deaf | Phase::CutOff => {
            let mode = if phase == Phase::Deaf { Mode::MuteListeners } else { Mode::BlackHole };
            for _ in 0..turns / 5 {
                pause(1500).await;
                proxy.set(mode);
                pause(3500).await;
                proxy.set(Mode::Pass);
            }
        }
        Phase::Stopped => {
            pause(3000).await;
            let last = replicas.last().context("a replica")?;
            last.signal(Signal::STOP)?;
            pause(30_000).await;
            last.signal(Signal::CONT)?;
            pause(5000).await;
        }
        Phase::Restarted => {
            for _ in 0..(turns / 10).max(1) {
                pause(5000).await;
                let postgres = &database.postgres;
                tokio::task::block_in_place(|| postgres.halt());
                pause(2000).await;
                tokio::task::block_in_place(|| postgres.resume())?;
                pause(3000).await;
            }
        }
    }
    Ok(())
}
