//! Habits that the compiler does not check: size, module docs, and constructs left out on purpose.

use crate::Problem;
use crate::lexer::Token;
use crate::paths::used;

const MAX_LINES: usize = 300;
/// Printed by a tool, so its length is not ours to choose.
const GENERATED: &str = "src/store/schema.rs";

/// Where tasks and threads begin besides `src/supervise.rs`, which keeps those that live as long as the server.
const SPAWNS: [(&str, &str); 12] = [
    ("src/supervise.rs", "the supervisor"),
    ("src/gateway.rs", "what follows the service, in a process of its own"),
    ("src/grpc/watch.rs", "a stream"),
    ("src/cache/sessions/fill.rs", "a read"),
    ("src/edge/accept.rs", "a connection"),
    ("src/edge/connection.rs", "a call"),
    ("src/server.rs", "what is built once, and a port that keeps its own loop"),
    ("src/store/connection.rs", "the bytes of a connection"),
    ("src/store/pool.rs", "a connection that catches up with its server"),
    ("src/telemetry/lines.rs", "the thread that writes the log"),
    ("src/cli/banner.rs", "what is said once"),
    ("src/dev_postgres/supervise.rs", "the keeper of a child process"),
];

/// Checks one file under `src/` or `tests/`, given as text and as tokens.
pub fn check(file: &str, source: &str, tokens: &[Token]) -> Vec<Problem> {
    let in_src = file.starts_with("src/");
    let mut problems = Vec::new();
    let mut report = |line: usize, rule: &'static str, what: &str| {
        problems.push(Problem::new(file, line, rule, what.to_owned()));
    };

    let lines = source.lines().count();
    if lines > MAX_LINES && file != GENERATED {
        report(
            MAX_LINES + 1,
            "size",
            &format!("{lines} lines: split it, {MAX_LINES} are the most"),
        );
    }
    if in_src && !source.starts_with("//!") {
        report(1, "docs", "start with `//!` lines: what the module owns and must not touch");
    }
    for found in used(file, tokens).iter().filter(|found| found.glob && !found.tests_glob) {
        report(found.line, "globs", "name what is imported; only a `mod tests` may `use super::*`");
    }

    let tested = test_only(file, tokens);
    for (at, token) in tokens.iter().enumerate() {
        let follows = |ahead: usize, text: &str| tokens.get(at + ahead).is_some_and(|t| t.is(text));
        let name = token.text.as_str();
        if ["todo", "unimplemented", "dbg"].contains(&name) && follows(1, "!") {
            report(
                token.line,
                "unfinished",
                &format!("`{name}!` must not land: finish or remove it"),
            );
        }
        let is_call = at > 0 && tokens[at - 1].is(".") && follows(1, "(");
        if name == "unwrap" && is_call && in_src && !tested[at] {
            report(token.line, "unwrap", "return an error, or `expect` the invariant in words");
        }
        if ["print", "println", "eprint", "eprintln"].contains(&name)
            && follows(1, "!")
            && in_src
            && !tested[at]
        {
            report(
                token.line,
                "print",
                "it panics where nobody reads: answer through src/cli/output.rs, or log",
            );
        }
        // `command.spawn()` starts a process.
        let begins = name == "spawn" && at > 0 && follows(1, "(") && !follows(2, ")");
        if begins
            && (tokens[at - 1].is(".") || tokens[at - 1].is("::"))
            && in_src
            && !tested[at]
            && SPAWNS.iter().all(|(home, _)| *home != file)
        {
            report(
                token.line,
                "spawn",
                "supervise what lives as long as the server (src/supervise.rs), or add what this is to SPAWNS",
            );
        }
        if !in_src && name == "sleep" && follows(1, "(") {
            report(token.line, "sleep", "wait for the event itself, under a timeout");
        }
        if name == "#" && (follows(1, "[") || follows(1, "!") && follows(2, "[")) {
            for (line, rule, what) in attribute(&tokens[at..attribute_end(tokens, at)]) {
                report(line, rule, what);
            }
        }
    }
    problems
}

/// The place after the `]` of the attribute that starts at `at`.
fn attribute_end(tokens: &[Token], at: usize) -> usize {
    end_of(tokens, at, "[", "]")
}

/// The place after the `close` that matches the first `open` from `at` on.
fn end_of(tokens: &[Token], at: usize, open: &str, close: &str) -> usize {
    let mut depth = 0_usize;
    for (offset, token) in tokens[at..].iter().enumerate() {
        if token.is(open) {
            depth += 1;
        } else if token.is(close) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + offset + 1;
            }
        }
    }
    tokens.len()
}

fn attribute(attribute: &[Token]) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    let has = |name: &str| attribute.iter().any(|token| token.is(name));
    let starts_with = |name: &str| {
        let first = attribute.iter().find(|token| token.is_name());
        first.is_some_and(|token| token.is(name) || token.is("cfg_attr") && has(name))
    };
    let line = attribute[0].line;
    if starts_with("allow") {
        found.push((line, "allow", "use `expect` with the lint and `reason = \"...\"`"));
    }
    if starts_with("expect") && !has("reason") {
        found.push((line, "allow", "add `reason = \"...\"` to the `expect`"));
    }
    if starts_with("ignore") {
        found.push((line, "ignore", "a test runs or goes: make it quick and steady, or remove it"));
    }
    found
}

/// For each token, whether it is compiled for tests only.
fn test_only(file: &str, tokens: &[Token]) -> Vec<bool> {
    let mut tested = vec![file.ends_with("/tests.rs") || file.contains("/tests/"); tokens.len()];
    for at in 0..tokens.len() {
        let inner = tokens[at].is("#") && tokens.get(at + 1).is_some_and(|token| token.is("!"));
        if !tokens[at].is("#") || tested[at] {
            continue;
        }
        let body = attribute_end(tokens, at);
        let attribute = &tokens[at..body];
        let has = |name: &str| attribute.iter().any(|token| token.is(name));
        if has("cfg") && has("test") && !has("not") {
            let end = if inner { tokens.len() } else { item_end(tokens, body) };
            tested[at..end].fill(true);
        }
    }
    tested
}

/// The place after the item at `at`: its body's brace or its semicolon, whichever comes first.
fn item_end(tokens: &[Token], at: usize) -> usize {
    match tokens[at..].iter().position(|token| token.is("{") || token.is(";")) {
        Some(offset) if tokens[at + offset].is("{") => end_of(tokens, at, "{", "}"),
        Some(offset) => at + offset + 1,
        None => tokens.len(),
    }
}
