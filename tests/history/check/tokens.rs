//! I6 to I8: the tokens of a session form a chain, and a retry returns the same tokens.

use std::collections::HashMap;

use uuid::Uuid;

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Micros, Op, What};
use crate::replica::LOST_RESPONSE;
use crate::tables::reason;

const WINDOW: Micros = LOST_RESPONSE.as_micros() as Micros;

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 5] =
        ["I6 one successor", "I6 chain", "I7 replay", "I7 one alert", "I8 token kept"];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    let mut owners: HashMap<u64, (Uuid, u32)> = HashMap::new();
    for (id, places) in history.by_session() {
        one_chain(history, judge, &mut owners, places);
        replays(history, judge, places);
        reused(history, judge, id, places);
    }
    one_alert(history, judge);
}

/// I6: each generation of a session has one refresh token, and a refresh returns the next one.
fn one_chain(
    history: &History,
    judge: &mut Judge,
    owners: &mut HashMap<u64, (Uuid, u32)>,
    places: &[usize],
) {
    let mut known: HashMap<u32, (u64, usize)> = HashMap::new();
    for at in places {
        let op = &history.ops[*at];
        let Some(tokens) = op.answer().and_then(|answer| answer.tokens.as_ref()) else { continue };
        let (first, by) = *known.entry(tokens.generation).or_insert((tokens.refresh, *at));
        if by != *at {
            judge.holds("I6 one successor", first == tokens.refresh, || {
                (format!("two tokens of generation {}", tokens.generation), vec![by, *at])
            });
        }
        let owner = (tokens.session, tokens.generation);
        let of = *owners.entry(tokens.refresh).or_insert(owner);
        judge.holds("I6 chain", of == owner && follows(op, tokens.generation), || {
            (format!("a token of {of:?} came as one of {owner:?}"), vec![*at])
        });
    }
}

fn follows(op: &Op, generation: u32) -> bool {
    match op.what {
        What::Refresh { generation: presented, .. } => generation == presented + 1,
        What::Create { .. } => generation == 1,
        _ => true,
    }
}

/// I7: a token is invalid once its successor was exchanged, or after its window.
fn replays(history: &History, judge: &mut Judge, places: &[usize]) {
    // When each generation first occurred in an answer, and in which call.
    let mut there: HashMap<u32, (Micros, usize)> = HashMap::new();
    for at in places {
        let op = &history.ops[*at];
        if let Some(tokens) = op.answer().and_then(|answer| answer.tokens.as_ref()) {
            let known = there.entry(tokens.generation).or_insert((op.end, *at));
            *known = (*known).min((op.end, *at));
        }
    }
    for at in places {
        let op = &history.ops[*at];
        let What::Refresh { generation, .. } = op.what else { continue };
        let exchanged = there.get(&(generation + 2)).filter(|(end, _)| *end < op.start);
        let outdated =
            there.get(&(generation + 1)).filter(|(end, _)| end + WINDOW + 100_000 < op.start);
        if let Some((_, by)) = exchanged.or(outdated) {
            judge.holds("I7 replay", op.answer().is_none(), || {
                (format!("generation {generation} was good once more"), vec![*by, *at])
            });
        }
    }
}

/// I8: a token counts as stolen only if its successor may have been used.
fn reused(history: &History, judge: &mut Judge, id: Uuid, places: &[usize]) {
    for at in places {
        let op = &history.ops[*at];
        let What::Refresh { generation, .. } = op.what else { continue };
        let before = |of: &dyn Fn(&What) -> bool| {
            let ops = places.iter().map(|at| &history.ops[*at]);
            ops.filter(|other| of(&other.what) && other.start < op.end)
                .map(|other| other.start)
                .min()
        };
        let used = before(&|what| match what {
            What::Refresh { generation: other, .. } | What::Validate { generation: other, .. } => {
                *other > generation
            }
            What::Reauthenticate { .. } => true,
            _ => false,
        });
        let first = before(
            &|what| matches!(what, What::Refresh { generation: it, .. } if *it == generation),
        );
        if used.is_some() || first.is_none_or(|first| first + WINDOW <= op.end) {
            continue;
        }
        let stolen = op.refusal() == Some("REFRESH_TOKEN_REUSED");
        judge.holds("I8 token kept", !stolen, || {
            (
                format!("nobody can have used a successor of generation {generation} of {id}"),
                vec![*at],
            )
        });
    }
}

/// I7: a session that ended by a replay has one alert, which counts one; other sessions have none.
fn one_alert(history: &History, judge: &mut Judge) {
    let mut alerts: HashMap<Uuid, Vec<i32>> = HashMap::new();
    for alert in &history.tables.alerts {
        if let Some(session) = alert.session.filter(|_| alert.rule == "refresh_reuse") {
            alerts.entry(session).or_default().push(alert.occurrences);
        }
    }
    for row in &history.tables.sessions {
        let counts = alerts.get(&row.id).map_or(&[][..], |alerts| alerts);
        let is_reuse = row.end_reason == Some(reason::REFRESH_REUSE);
        if !is_reuse && counts.is_empty() {
            continue;
        }
        let right = if is_reuse { counts == [1] } else { counts.is_empty() };
        judge.holds("I7 one alert", right, || {
            let what =
                format!("session {} ended as {:?} has alerts {counts:?}", row.id, row.end_reason);
            (what, history.of_session(row.id).map(|(at, _)| at).collect())
        });
    }
}
