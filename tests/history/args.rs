//! The command line.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const USAGE: &str =
    "history [--seconds N] [--seed S] [--callers N] [--calm] [--no-restart] [--twins [NAME]]

  --seconds N   how long calls are made [20]
  --seed S      what decides which calls and faults [a new one]
  --callers N   how many call at once [32]
  --calm        no faults
  --no-restart  everything stays up at the end
  --twins       run the broken twins, or one (debug builds only)";

#[derive(Debug, Clone)]
pub struct Args {
    pub time: Duration,
    pub seed: u64,
    pub callers: u32,
    pub calm: bool,
    /// Kills and restarts everything at the end.
    pub restarts: bool,
    pub twins: bool,
    /// Runs only this twin.
    pub twin: Option<String>,
}

impl Args {
    /// `None` if the arguments select only tests of other names, as `cargo test NAME` does.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
        let mut args = Args {
            time: Duration::from_secs(20),
            seed: RandomState::new().hash_one("seed"),
            callers: 32,
            calm: false,
            restarts: true,
            twins: false,
            twin: None,
        };
        while let Some(word) = words.next() {
            let mut number = || {
                let value =
                    words.next().ok_or_else(|| format!("{word} needs a number\n{USAGE}"))?;
                value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number\n{USAGE}"))
            };
            match word.as_str() {
                "--seconds" => args.time = Duration::from_secs(number()?),
                "--seed" => args.seed = number()?,
                "--callers" => {
                    args.callers = u32::try_from(number()?).map_err(|_| USAGE.to_owned())?;
                }
                "--calm" => args.calm = true,
                "--no-restart" => args.restarts = false,
                "--twins" => args.twins = true,
                name if args.twins && !name.starts_with('-') => args.twin = Some(word),
                // Arguments that `cargo test` passes to every test.
                "--test-threads" => drop(number()?),
                "--list" => return Ok(None),
                name if !name.starts_with('-') && !"history".contains(name) => return Ok(None),
                other if other.starts_with('-') && !KNOWN.contains(&other) => {
                    return Err(format!("{other} is not known\n{USAGE}"));
                }
                _ => {}
            }
        }
        Ok(Some(args))
    }
}

/// Flags of the standard test harness that have no effect here.
const KNOWN: [&str; 6] =
    ["--nocapture", "--no-capture", "--quiet", "-q", "--exact", "--show-output"];
