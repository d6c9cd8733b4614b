//! I11: streams are ordered, without duplicates and gaps, even where they were resumed.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::history::History;
use crate::judge::Judge;
use crate::watch::{Stream, Watched};

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 6] = [
        "I11 complete",
        "I11 revocations",
        "I11 unique",
        "I11 nothing else",
        "I11 order",
        "I11 resumed",
    ];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    for watched in &history.watches {
        let got: HashSet<Uuid> =
            watched.events.iter().filter_map(|event| watched.name(event)).collect();
        let complete = match watched.stream {
            Stream::Revocations => "I11 revocations",
            _ => "I11 complete",
        };
        for expected in watched.expected(&history.tables) {
            judge.holds(complete, got.contains(&expected), || {
                let session = session_of(history, watched, expected);
                let ops = session.into_iter().flat_map(|id| history.of_session(id));
                let what =
                    format!("{:?} never told {expected} of session {session:?}", watched.stream);
                (what, ops.map(|(at, _)| at).take(6).collect())
            });
        }
        for refusal in &watched.refused {
            judge.holds("I11 resumed", false, || {
                (format!("{:?}: {refusal}", watched.stream), vec![])
            });
        }
        if watched.resumed > 0 {
            judge.holds("I11 resumed", true, Default::default);
        }
        if watched.stream != Stream::Revocations {
            unique(judge, watched);
            nothing_else(history, judge, watched);
        }
        // Alerts arrive only roughly in the order of time.
        if watched.stream == Stream::Sessions {
            ordered(history, judge, watched);
        }
    }
}

fn session_of(history: &History, watched: &Watched, expected: Uuid) -> Option<Uuid> {
    if watched.stream == Stream::Revocations {
        return Some(expected);
    }
    history.tables.trail.iter().find(|change| change.id == expected)?.session
}

fn unique(judge: &mut Judge, watched: &Watched) {
    let mut seen = HashSet::new();
    for event in &watched.events {
        judge.holds("I11 unique", seen.insert(event.id), || {
            (format!("{:?} told {} once more at {} us", watched.stream, event.id, event.at), vec![])
        });
    }
}

/// Each received event is in the trail, unless it was erased since or came after the tables were read.
fn nothing_else(history: &History, judge: &mut Judge, watched: &Watched) {
    let trail: HashSet<Uuid> = history.tables.trail.iter().map(|change| change.id).collect();
    for event in watched.events.iter().filter(|event| event.at < history.read_at) {
        let in_tables = event.session.is_some_and(|id| history.row(id).is_some());
        if in_tables || trail.contains(&event.id) {
            judge.holds("I11 nothing else", trail.contains(&event.id), || {
                (
                    format!("{:?} told {}, of which nothing is known", watched.stream, event.id),
                    vec![],
                )
            });
        }
    }
}

/// The events of one session arrive in the order of their commits.
fn ordered(history: &History, judge: &mut Judge, watched: &Watched) {
    let places: HashMap<Uuid, usize> =
        history.tables.trail.iter().enumerate().map(|(at, change)| (change.id, at)).collect();
    let mut last: HashMap<Uuid, (usize, Uuid)> = HashMap::new();
    for event in &watched.events {
        let Some(session) = event.session else { continue };
        let Some(place) = places.get(&event.id).copied() else { continue };
        let before = last.insert(session, (place, event.id));
        let Some((before, id)) = before else { continue };
        judge.holds("I11 order", before < place, || {
            let ops = history.of_session(session).map(|(at, _)| at).take(8).collect();
            (format!("{:?} told {id} before {}", watched.stream, event.id), ops)
        });
    }
}
