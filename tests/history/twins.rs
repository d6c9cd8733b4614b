//! Broken twins: the same server with one deliberate fault (`src/broken.rs`), which a check must detect.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::args::Args;

/// The faults, and the check that must detect each.
const TWINS: &[(&str, &str)] = &[
    ("keeps-ended", "I1 same replica"),
    ("deaf", "I2 bound"),
    ("strong-cached", "I2 asked to be fresh"),
    ("refreshes-ended", "I3 late change"),
    ("refreshes-ended", "I4 trail"),
    ("loses-commits", "I4 tables"),
    ("one-more", "I5 limit"),
    ("one-less", "I5 no more victims"),
    ("spares-victims", "I5 victims"),
    ("wrong-victims", "I5 right victims"),
    ("one-less", "I5 refusals"),
    ("new-successor", "I6 chain"),
    ("no-theft", "I7 replay"),
    ("two-alerts", "I7 one alert"),
    ("retry-is-theft", "I8 token kept"),
    ("loses-commits", "I9 sessions"),
    ("no-activity", "I10 sessions"),
    ("no-activity", "I10 devices"),
    ("no-activity", "I10 alerts"),
    ("no-activity", "I10 policies"),
    ("loses-rows", "I10 no row lost"),
    ("skips-events", "I11 complete"),
    ("repeats-events", "I11 unique"),
    ("misfiled-revocations", "I11 revocations"),
    ("reverses-events", "I11 order"),
    ("refuses-cursors", "I11 resumed"),
    ("renames-events", "I11 nothing else"),
    ("never-expires", "I12 idle"),
    ("never-expires", "I12 absolute"),
    ("outage-is-logout", "I13 validate"),
    ("outage-is-logout", "I13 refresh"),
    ("outage-is-logout", "I13 no fault"),
    ("any-tenant", "I14 foreign call"),
    ("any-tenant", "I14 no effect"),
    ("wrong-role", "I15 permitted"),
    ("wrong-role", "I15 denied"),
    ("wrong-role", "I15 no effect"),
    ("odd-paths", "I15 odd path"),
    ("ends-nothing", "I16 all of a user"),
    ("erases-nothing", "I19 erased"),
    ("forgets-requests", "I20 one effect"),
    ("forgets-requests", "I20 same answer"),
    ("forgets-requests", "I20 other body"),
    ("mixed-answers", "I22 own answer"),
];

/// The faults that show only during other failures; the rest are detected sooner without any.
const TROUBLED: [&str; 1] = ["outage-is-logout"];

/// The fault that shows only when streams are resumed, as after a restart.
const RESTARTED: [&str; 1] = ["refuses-cursors"];

/// How often a twin is run before its check counts as missed: some faults need concurrent calls.
const RUNS: u64 = 4;

/// Runs each twin with the same arguments; true if each was detected.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    anyhow::ensure!(
        cfg!(debug_assertions),
        "only a debug build has the faults that --twins is about"
    );
    let faults: BTreeSet<&str> = TWINS.iter().map(|(fault, _)| *fault).collect();
    let mut missed = Vec::new();
    for fault in faults.into_iter().filter(|fault| args.twin.as_ref().is_none_or(|it| it == fault))
    {
        let checks = TWINS.iter().filter(|(of, _)| *of == fault).map(|(_, check)| *check);
        let checks: Vec<&str> = checks.collect();
        let (mut violated, mut runs, begun) = (BTreeSet::new(), 0, Instant::now());
        for run in 0..RUNS {
            runs += 1;
            // Most are detected sooner.
            let time = if run == 0 { args.time / 2 } else { args.time };
            violated.extend(self::violated(args, time, fault, run)?);
            if checks.iter().all(|check| violated.contains(*check)) {
                break;
            }
        }
        let time = begun.elapsed().as_secs();
        for check in checks {
            let found = violated.contains(check);
            let word = if found { "found" } else { "MISSED" };
            println!("{fault:<21} {check:<24} {word} in {runs} runs, {time} s");
            if !found {
                missed.push(check);
            }
        }
    }
    Ok(missed.is_empty())
}

/// The checks that one broken twin violates.
fn violated(args: &Args, time: Duration, fault: &str, run: u64) -> anyhow::Result<Vec<String>> {
    let mut twin = Command::new(std::env::current_exe()?);
    twin.env("SESSIOND_BROKEN", fault);
    twin.args(["--seconds", &time.as_secs().to_string()]);
    twin.args([
        "--seed",
        &args.seed.wrapping_add(run).to_string(),
        "--callers",
        &args.callers.to_string(),
    ]);
    if !TROUBLED.contains(&fault) {
        twin.arg("--calm");
    }
    if !RESTARTED.contains(&fault) {
        twin.arg("--no-restart");
    }
    let said = String::from_utf8(twin.output()?.stdout)?;
    let line = said.lines().find_map(|line| line.strip_prefix("violated: "));
    let line = line.with_context(|| format!("the twin {fault} judged nothing:\n{said}"))?;
    Ok(line.split(", ").map(str::to_owned).collect())
}
