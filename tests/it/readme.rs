//! The README is true: its tour is run, and its tables and blocks are compared with the code.

mod config;
pub(crate) mod grpcurl;
mod markdown;
mod roles;

use std::process::Command;

use sessiond::clock::Clock;

use crate::harness::cluster::Db;
use crate::harness::start_on;
use markdown::{Block, blocks};

const README: &str = include_str!("../../README.md");
/// Further pages with shell blocks.
const PAGES: [&str; 3] = [
    include_str!("../../docs/CALLERS.md"),
    include_str!("../../docs/KEYS.md"),
    include_str!("../../docs/POSTGRES.md"),
];
const TOUR: &str = "The life of a session";
/// Where `sessiond serve` listens by default.
const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_prints_what_it_shows() {
    let tour: Vec<Block> = blocks(README).into_iter().filter(|b| b.section == TOUR).collect();
    let steps = steps(&tour);
    assert!(steps.len() > 10, "the tour has {} steps", steps.len());

    // With the real clock: the tour waits for a session to age.
    let server = start_on(Db::fresh().await, Clock::system(), |_| {}).await;
    let script = script(&steps).replace(DEFAULT_ADDRESS, &server.addr.to_string());
    let run = move || {
        let mut shell = Command::new("bash");
        shell.args(["-eu", "-c", &script]).env("PATH", grpcurl::path());
        shell.output().expect("bash runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("no panic");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "the tour ended early ({}):\n{printed}", output.status);

    let mut parts = printed.split(MARKER).skip(1);
    for step in &steps {
        let printed = parts.next().expect("a part for each step");
        if let Some(missing) = markdown::missing(step.shown, printed) {
            panic!("{}\nshows\n{missing}\nbut prints\n{printed}", step.commands);
        }
    }
}

#[test]
fn every_shell_block_begins_with_a_known_command() {
    const KNOWN: [&str; 7] = ["cargo", "echo", "field()", "grpcurl", "mktemp)", "openssl", "until"];
    let pages = std::iter::once(README).chain(PAGES);
    let shell: Vec<Block> = pages.flat_map(blocks).filter(|b| b.language == "sh").collect();
    assert!(shell.len() > 10, "the README has {} shell blocks", shell.len());
    for block in shell {
        // Skips `name=$(`, to the command whose output is kept.
        let first = block.text.split_once("=$(").map_or(block.text, |(name, command)| {
            if name.contains(char::is_whitespace) { block.text } else { command }
        });
        let command = first.split_whitespace().next().unwrap_or_default();
        assert!(KNOWN.contains(&command), "`{command}` begins\n{}", block.text);
    }
}

/// Commands, and what they print.
struct Step<'a> {
    commands: &'a str,
    shown: &'a str,
}

/// Pairs each shell block with the text block under it, if there is one.
fn steps<'a>(tour: &[Block<'a>]) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = Vec::new();
    for block in tour {
        match (block.language, steps.last_mut()) {
            ("sh", _) => steps.push(Step { commands: block.text, shown: "" }),
            ("text", Some(step)) if step.shown.is_empty() => step.shown = block.text,
            _ => panic!("a block of the tour that belongs to no command:\n{}", block.text),
        }
    }
    steps
}

/// Begins the output of each step.
const MARKER: &str = "==== step ====\n";

/// One script of all steps, for one shell. A step whose text shows an error must fail, all others must succeed.
fn script(steps: &[Step]) -> String {
    let mut script = "exec 2>&1\n".to_owned();
    for Step { commands, shown } in steps {
        script += &format!("printf '{}'\n", MARKER.escape_default());
        script += &if shown.starts_with("ERROR:") {
            format!("if {{\n{commands}\n}}; then echo 'this was to be refused'; exit 1; fi\n")
        } else {
            format!("{commands}\n")
        };
    }
    script
}
