//! I16 and I20: ends of all sessions of a user, and repeated requests.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::check::deaths::ends_all_of;
use crate::history::History;
use crate::judge::Judge;
use crate::record::{Answer, Micros, Of, Op, What};

/// How closely the commit times of Postgres and the clock of the run agree.
const SLACK: Micros = 20_000;

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 4] =
        ["I16 all of a user", "I20 same answer", "I20 other body", "I20 one effect"];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    all_of_a_user(history, judge);
    repeated(history, judge);
    let mut tags: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for row in &history.tables.sessions {
        tags.entry(&row.tag).or_default().push(row.id);
    }
    for (at, op) in history.ops.iter().enumerate() {
        if let (What::Create { tag, .. }, Some(_), true) =
            (&op.what, op.request, op.answer().is_some())
        {
            let made = tags.get(tag.as_str()).map_or(&[][..], |made| made);
            let same =
                |other: &&Op| matches!(&other.what, What::Create { tag: it, .. } if it == tag);
            // Request ids are separate for each principal.
            let principals: HashSet<_> = history.ops.iter().filter(same).map(tenant_of).collect();
            judge.holds("I20 one effect", made.len() <= principals.len(), || {
                (format!("one request made sessions {made:?}"), vec![at])
            });
        }
    }
}

/// I16
fn all_of_a_user(history: &History, judge: &mut Judge) {
    for (at, op) in history.ops.iter().enumerate() {
        let of_user = matches!(op.what, What::TerminateMany { of: Of::User });
        let complete = op.answer().is_some_and(|answer| answer.complete);
        if !of_user || !complete || !History::is_told(op.who) {
            continue;
        }
        let asked = history.asked(op);
        for (id, birth) in history.births_of(op.who) {
            if birth.answered >= asked || !ends_all_of(history, op, birth) {
                continue;
            }
            let ended = history.end(id).is_some_and(|end| end.committed <= op.end + SLACK);
            judge.holds("I16 all of a user", ended, || {
                let mut ops: Vec<usize> =
                    history.of_session(id).map(|(at, _)| at).take(3).collect();
                ops.push(at);
                (format!("session {id} was left"), ops)
            });
        }
    }
}

/// I20
fn repeated(history: &History, judge: &mut Judge) {
    let mut requests: HashMap<((usize, &str), Uuid), Vec<usize>> = HashMap::new();
    // An erasure deletes the stored requests too.
    let kept = history.ops.iter().enumerate().filter(|(_, op)| History::is_told(op.who));
    for (at, op) in kept {
        if let Some((id, _)) = op.request {
            requests.entry((tenant_of(op), id)).or_default().push(at);
        }
    }
    for places in requests.values().filter(|places| places.len() > 1) {
        let mut first: Option<(usize, &Op, &Answer)> = None;
        for at in places {
            let op = &history.ops[*at];
            let Some(answer) = op.answer() else { continue };
            let Some((before, known, said)) = first else {
                first = Some((*at, op, answer));
                continue;
            };
            let same_body = known.request == op.request;
            judge.holds("I20 other body", same_body, || {
                ("two bodies had an effect under one id".to_owned(), vec![before, *at])
            });
            judge.holds("I20 same answer", !same_body || agree(said, answer), || {
                ("one request had two answers".to_owned(), vec![before, *at])
            });
        }
    }
}

/// The tenant and principal that a request id belongs to.
fn tenant_of(op: &Op) -> (usize, &'static str) {
    let tenant = crate::users::USERS[op.who].tenant;
    let principal = op.role.map_or("", |role| role.name());
    (usize::from((tenant == crate::users::TENANTS[0]) == op.foreign), principal)
}

/// States may have changed since, but not what the request did. A later answer may lack parts of the first.
fn agree(one: &Answer, other: &Answer) -> bool {
    let id = |answer: &Answer| answer.session.as_ref().map(|session| session.id);
    let ended = |answer: &Answer| {
        let mut ids: Vec<Uuid> = answer.sessions.iter().map(|session| session.id).collect();
        ids.sort_unstable();
        ids
    };
    let tokens = one.tokens.as_ref().zip(other.tokens.as_ref());
    id(one) == id(other)
        && one.subject.map(|(id, ..)| id) == other.subject.map(|(id, ..)| id)
        && tokens.is_none_or(|(one, other)| {
            (one.session, one.generation, one.refresh)
                == (other.session, other.generation, other.refresh)
        })
        && (one.tokens.is_none() || ended(one) == ended(other))
}
