//! The binary: parses the command line and runs it.

use std::process::ExitCode;

use sessiond::cli::{parse, run};
use sessiond::supervise::caught;
use sessiond::telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        let done = runtime.block_on(caught(run(cli)));
        // Do not wait for blocking threads: one may hang on a file that does not respond.
        runtime.shutdown_background();
        done.unwrap_or_else(|panic| Err(anyhow::anyhow!("a fault of the program: {panic}")))
    });
    telemetry::end(done.as_ref().err());
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
