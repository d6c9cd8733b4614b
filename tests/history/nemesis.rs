//! The faults of a run and their times: a pure function of the seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use chrono::Duration as Span;

use crate::pause;
use crate::proxy::{FAIR, Way, Weather};
use crate::record::Micros;
use crate::rng::Rng;
use crate::users::USERS;
use crate::world::{REPLICAS, World};

/// A fault of one replica, or of its connection to the database.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    /// It restarts on a machine whose clock is wrong by an hour.
    KillAndStepClock,
    Stop,
    /// It stops for a while.
    Freeze,
    Cut,
    Late,
    Hole,
    HoleUp,
    HoleDown,
    HalfClosedUp,
    HalfClosedDown,
    LoseCommits,
    CutListeners,
    MuteListeners,
}

const FAULTS: [(usize, Fault); 14] = [
    (5, Fault::Kill),
    (3, Fault::KillAndStepClock),
    (2, Fault::Stop),
    (5, Fault::Freeze),
    (4, Fault::Cut),
    (5, Fault::Late),
    (3, Fault::Hole),
    (3, Fault::HoleUp),
    (4, Fault::HoleDown),
    (2, Fault::HalfClosedUp),
    (2, Fault::HalfClosedDown),
    (10, Fault::LoseCommits),
    (3, Fault::CutListeners),
    (4, Fault::MuteListeners),
];

/// A fault of the database.
#[derive(Debug, Clone, Copy)]
enum Blow {
    LockRows,
    TerminateBackends,
    Restart,
    /// Tables cannot grow.
    FillDisk,
    /// Neither can the log, which stops Postgres.
    FillDiskAndLog,
}

const BLOWS: [(usize, Blow); 5] = [
    (6, Blow::LockRows),
    (8, Blow::TerminateBackends),
    (2, Blow::Restart),
    (2, Blow::FillDisk),
    (2, Blow::FillDiskAndLog),
];

/// The index of the nemeses among the sources of random numbers.
const REPLICAS_PLACE: u64 = 1 << 40;
const DATABASE_PLACE: u64 = 1 << 41;

/// The faults that were injected, and when.
#[derive(Default)]
pub struct Log(Mutex<Vec<(Micros, String)>>);

impl Log {
    fn note(&self, at: Micros, what: String) {
        self.0.lock().expect("nobody panics while writing").push((at, what));
    }

    /// Faults by kind; with `all`, each with its time.
    pub fn show(&self, all: bool) {
        let log = self.0.lock().expect("nobody panics while writing");
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, what) in &*log {
            *counts.entry(what.split(' ').next().unwrap_or_default()).or_default() += 1;
        }
        let counts: Vec<String> =
            counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!(
            "faults: {}",
            if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
        );
        for (at, what) in log.iter().filter(|_| all) {
            println!("  {:>10.6} s: {what}", *at as f64 / 1e6);
        }
    }
}

/// Injects faults of replicas and their connections to the database until the run ends, and then removes them.
pub async fn trouble_replicas(world: Arc<World>, log: Arc<Log>) {
    for step in 0.. {
        let mut rng = Rng::of(world.seed, [REPLICAS_PLACE, step]);
        pause(Duration::from_millis(rng.between(200, 1_500))).await;
        if world.is_over() {
            return;
        }
        let (fault, number) = (rng.weighted(&FAULTS), rng.below(REPLICAS));
        let lasts = Duration::from_millis(rng.between(100, 1_800));
        let what = format!("{fault:?} of replica {number} for {} ms", lasts.as_millis());
        log.note(world.epoch.now(), what);
        befall(&world, fault, number, lasts, &mut rng).await;
    }
}

async fn befall(world: &World, fault: Fault, number: usize, lasts: Duration, rng: &mut Rng) {
    let replica = &world.replicas[number];
    let weather = match fault {
        Fault::Kill | Fault::KillAndStepClock | Fault::Stop => {
            if matches!(fault, Fault::Stop) {
                replica.stop().await;
            } else {
                replica.kill();
            }
            pause(lasts / 4).await;
            let hours = match fault {
                Fault::KillAndStepClock => {
                    if rng.chance(50) {
                        1
                    } else {
                        -1
                    }
                }
                _ => 0,
            };
            return replica.start(Span::hours(hours)).await;
        }
        Fault::Freeze => {
            replica.freeze(lasts);
            return pause(lasts).await;
        }
        Fault::Cut => Weather { cut: true, ..FAIR },
        Fault::Late => Weather {
            up: Way::Late(rng.between(0, 5)),
            down: Way::Late(rng.between(1, 30)),
            ..FAIR
        },
        Fault::Hole => Weather { up: Way::Hole, down: Way::Hole, ..FAIR },
        Fault::HoleUp => Weather { up: Way::Hole, ..FAIR },
        Fault::HoleDown => Weather { down: Way::Hole, ..FAIR },
        Fault::HalfClosedUp => Weather { up: Way::Closed, ..FAIR },
        Fault::HalfClosedDown => Weather { down: Way::Closed, ..FAIR },
        Fault::LoseCommits => Weather { loses_commits: true, ..FAIR },
        Fault::CutListeners => Weather { cut: true, listeners_only: true, ..FAIR },
        Fault::MuteListeners => {
            Weather { up: Way::Hole, down: Way::Hole, listeners_only: true, ..FAIR }
        }
    };
    replica.proxy.set(weather);
    pause(lasts).await;
    replica.proxy.set(FAIR);
}

/// Injects faults of the database until the run ends.
pub async fn trouble_database(world: Arc<World>, log: Arc<Log>) {
    for step in 0.. {
        let mut rng = Rng::of(world.seed, [DATABASE_PLACE, step]);
        pause(Duration::from_millis(rng.between(500, 3_000))).await;
        if world.is_over() {
            return;
        }
        let (blow, at) = (rng.weighted(&BLOWS), world.epoch.now());
        // While Postgres is down there is nothing to lock or to terminate.
        let struck = strike(&world, blow, &mut rng).await;
        let missed = if struck.is_ok() { "" } else { "(missed)" };
        log.note(at, format!("{blow:?}{missed}"));
    }
}

async fn strike(world: &World, blow: Blow, rng: &mut Rng) -> anyhow::Result<()> {
    match blow {
        Blow::FillDisk => return fill_disk(world, rng.between(5, 40), false).await,
        Blow::FillDiskAndLog => return fill_disk(world, rng.between(5, 40), true).await,
        Blow::Restart => world.restart_postgres(),
        Blow::TerminateBackends => {
            let admin = world.connect().await?;
            let sql =
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'sessiond' ORDER BY pid";
            let all: Vec<i32> = admin.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
            for _ in 0..rng.between(1, 6).min(all.len() as u64) {
                let pid = *rng.pick(&all);
                admin.query("SELECT pg_terminate_backend($1)", &[&pid]).await?;
            }
        }
        Blow::LockRows => {
            let user = rng.pick(&USERS);
            let holder = world.connect().await?;
            holder.batch_execute("BEGIN; SET LOCAL lock_timeout = '500ms'").await?;
            let sql = "SELECT 1 FROM user_sessions WHERE tenant_id = $1 AND user_id = $2 AND state = 1 FOR UPDATE";
            holder.query(sql, &[&user.tenant, &user.name]).await?;
            pause(Duration::from_millis(rng.between(100, 2_000))).await;
            holder.batch_execute("ROLLBACK").await?;
        }
    }
    Ok(())
}

/// Keeps the disk full for so many tenths of a second; fails if Postgres was not affected. It restarts by itself.
async fn fill_disk(world: &World, tenths: u64, and_log: bool) -> anyhow::Result<()> {
    let disk = world.disk.as_ref().context("there is none")?;
    let (server, mut felt) = (world.postgres.pid(), false);
    for tenth in 0..tenths {
        // Blocks that Postgres frees are filled as well. It may have written more while the disk was shrunk.
        let filled = tokio::task::block_in_place(|| disk.fill());
        if tenth == 0 && and_log {
            let _ = begin_log_file(world).await;
        }
        felt |= match and_log {
            true => world.postgres.pid() != server,
            false => filled.is_ok() && is_full(world).await,
        };
        pause(Duration::from_millis(100)).await;
    }
    disk.relieve()?;
    anyhow::ensure!(felt, "there was room");
    Ok(())
}

/// Switches to a new log file.
async fn begin_log_file(world: &World) -> Result<(), tokio_postgres::Error> {
    world.connect().await?.batch_execute("SELECT pg_switch_wal()").await
}

/// True if Postgres cannot write a table.
async fn is_full(world: &World) -> bool {
    let Ok(db) = world.connect().await else { return true };
    let sql = "CREATE TEMP TABLE large AS SELECT repeat('x', 500) FROM generate_series(1, 200)";
    db.batch_execute(sql).await.is_err()
}
