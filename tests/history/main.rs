//! The history checker: random calls by many callers at three replicas, while parts of them fail; all calls are written
//! down, and afterwards the invariants are judged. `tests/README.md` says which, and how to run it.

mod answer;
mod args;
mod call;
mod callers;
mod check;
mod directory;
mod disk;
mod history;
mod judge;
mod keys;
mod make;
mod make_alerts;
mod make_many;
mod nemesis;
mod proxy;
mod record;
mod replica;
mod rng;
mod run;
mod tables;
mod ticker;
mod twins;
mod users;
mod watch;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use args::Args;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        // Another test was asked for by its name.
        Ok(None) => return ExitCode::SUCCESS,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    if args.twins {
        return ended(twins::run(&args), &args);
    }
    if !args.calm {
        disk::enter_own_mounts();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    ended(runtime.expect("a runtime").block_on(run::run(&args)), &args)
}

fn ended(run: anyhow::Result<bool>, args: &Args) -> ExitCode {
    match run {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the run could not be made (--seed {}): {error:#}", args.seed);
            ExitCode::FAILURE
        }
    }
}

/// Lets time pass: how long a fault lasts, how long a caller thinks. No check waits this way.
async fn pause(time: Duration) {
    // Ends by the timeout, always.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
