//! The results of the checks, and their report.

use std::collections::BTreeMap;

use crate::history::History;
use crate::record::{Op, Outcome};
use crate::users::USERS;

/// The most violations of one invariant that are shown.
const SHOWN: usize = 3;
/// The most calls of one violation that are shown.
const CALLS: usize = 14;

#[derive(Default)]
pub struct Judge {
    facts: BTreeMap<&'static str, u64>,
    violations: BTreeMap<&'static str, Vec<Violation>>,
}

/// A broken invariant, and the calls that show it, by their index in the history.
pub struct Violation {
    pub what: String,
    pub ops: Vec<usize>,
}

impl Judge {
    /// Declares a check, so that one that never ran is reported.
    pub fn declare(&mut self, invariant: &'static str) {
        self.facts.entry(invariant).or_default();
    }

    /// Checks one fact.
    pub fn holds(
        &mut self,
        invariant: &'static str,
        holds: bool,
        otherwise: impl FnOnce() -> (String, Vec<usize>),
    ) {
        *self.facts.entry(invariant).or_default() += 1;
        if !holds {
            let (what, ops) = otherwise();
            self.violations.entry(invariant).or_default().push(Violation { what, ops });
        }
    }

    pub fn violations(&self) -> usize {
        self.violations.values().map(Vec::len).sum()
    }

    /// The invariants that are broken.
    pub fn broken(&self) -> Vec<&'static str> {
        self.violations.keys().copied().collect()
    }

    /// The checks that checked nothing.
    pub fn idle(&self) -> Vec<&'static str> {
        self.facts.iter().filter(|(_, facts)| **facts == 0).map(|(name, _)| *name).collect()
    }

    pub fn show(&self, history: &History) {
        println!("checks: invariant, facts judged, violations");
        for (invariant, facts) in &self.facts {
            let violations = self.violations.get(invariant).map_or(0, Vec::len);
            println!("  {invariant:<28} {facts:>9} {violations:>6}");
        }
        for (invariant, violations) in &self.violations {
            for violation in violations.iter().take(SHOWN) {
                println!("\nVIOLATION of {invariant}: {}", violation.what);
                show_ops(history, &violation.ops);
            }
            if let Some(more) = violations.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                println!("... and {more} more of {invariant}");
            }
        }
    }
}

/// The calls in the order of their start, only the first and last if there are many.
fn show_ops(history: &History, places: &[usize]) {
    let mut places = places.to_vec();
    places.sort_unstable();
    places.dedup();
    let surplus = places.len().saturating_sub(CALLS);
    for (number, at) in places.iter().enumerate() {
        if number == CALLS / 2 && surplus > 0 {
            println!("  ... {surplus} calls ...");
        }
        if number < CALLS / 2 || number >= CALLS / 2 + surplus {
            println!("  {}", line(&history.ops[*at]));
        }
    }
}

fn line(op: &Op) -> String {
    let user = &USERS[op.who];
    let foreign = if op.foreign { " as of the other tenant" } else { "" };
    let role = op.role.map(|role| format!(" by {}", role.name())).unwrap_or_default();
    let request = op.request.map(|(id, _)| format!(" request {id}")).unwrap_or_default();
    let seconds = |micros: i64| micros as f64 / 1e6;
    format!(
        "{:>10.6} to {:>10.6} s, replica {}, caller {:>2}: {:?} of {}/{}{role}{foreign}{request} -> {}",
        seconds(op.start),
        seconds(op.end),
        op.replica,
        op.caller,
        op.what,
        user.tenant,
        user.name,
        outcome(op)
    )
}

fn outcome(op: &Op) -> String {
    match &op.outcome {
        Outcome::No(code, reason) => format!("no: {code:?} {reason}"),
        Outcome::Unknown(code) => format!("unknown: {code:?}"),
        Outcome::Ok(answer) => {
            let mut said = vec!["ok".to_owned()];
            said.extend(answer.verdict.as_ref().map(|verdict| format!("{verdict:?}")));
            said.extend(answer.session.as_ref().map(|seen| {
                let state = if seen.active { "active" } else { "ended" };
                format!("session {} generation {} {state}", seen.id, seen.generation)
            }));
            said.extend(
                answer.tokens.as_ref().map(|tokens| {
                    format!("tokens of {} {:016x}", tokens.generation, tokens.refresh)
                }),
            );
            let ids: Vec<String> =
                answer.sessions.iter().take(4).map(|seen| seen.id.to_string()).collect();
            if !ids.is_empty() {
                said.push(format!("{} sessions: {}", answer.sessions.len(), ids.join(" ")));
            }
            said.extend(
                answer.subject.map(|(id, revision, _)| format!("{id} revision {revision}")),
            );
            said.join(", ")
        }
    }
}
