//! The binary: parses the command line and runs it.

use clap::Parser;
use sessiond::cli::{Cli, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sessiond: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
