//! The features of Cargo.toml: the feature `gateway` builds alone, with few dependencies.

use std::collections::BTreeSet;
use std::process::{Command, Output};

/// The most crates that a gateway depends on, on Linux; 93 when this was written. The server depends on some 300.
const MAX_CRATES: usize = 100;

/// What only the server needs.
const OF_THE_SERVER: [&str; 16] = [
    "axum",
    "bb8",
    "clap",
    "diesel",
    "diesel-async",
    "governor",
    "libmimalloc-sys",
    "maxminddb",
    "mimalloc",
    "opentelemetry",
    "prometheus",
    "protox",
    "rustls",
    "tokio-postgres",
    "tracing-subscriber",
    "ua-parser",
];

/// Runs cargo offline with the feature `gateway` alone.
fn cargo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--no-default-features", "--features", "gateway"]);
    command.args(["--locked", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {said}");
    output
}

#[test]
fn the_gateway_takes_in_few_crates_and_none_of_the_servers() {
    let output = cargo(&["tree", "--edges", "normal", "--prefix", "none", "--format", "{lib}"]);
    let tree = String::from_utf8(output.stdout).expect("text");
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let crates: BTreeSet<String> = names.map(|name| name.replace('_', "-")).collect();
    assert!(crates.contains("tonic") && crates.contains("jsonwebtoken"), "{crates:?}");
    let heavy: Vec<_> = OF_THE_SERVER.iter().filter(|name| crates.contains(**name)).collect();
    assert!(heavy.is_empty(), "{heavy:?}");
    assert!(crates.len() <= MAX_CRATES, "{}: {crates:?}", crates.len());
}

#[test]
fn the_gateway_builds_alone() {
    cargo(&["check", "--lib", "--target-dir", "target/gateway"]);
}
