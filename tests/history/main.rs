//! The history checker: many callers make random calls to three replicas while parts fail. All calls are recorded, and
//! the invariants are checked afterwards. `tests/README.md` lists them, and says how to run it.

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
        // The arguments select another test.
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

/// Sleeps: for the length of a fault, or between two calls. No check waits this way.
async fn pause(time: Duration) {
    // Always ends by the timeout.
    let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
}
