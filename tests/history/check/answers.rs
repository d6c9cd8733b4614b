//! I14, I19 and I22: each answer is about the resource of its call, of its tenant, and never about an erased user.

use std::collections::HashMap;

use sessiond::model::caller::scope::Scope;
use uuid::Uuid;

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Answer, How, Micros, Op, Outcome, Seen, Verdict, What};
use crate::tables::reason;
use crate::users::USERS;

pub fn check(history: &History, judge: &mut Judge) {
    const NAMES: [&str; 4] = ["I14 foreign call", "I14 no effect", "I19 erased", "I22 own answer"];
    NAMES.into_iter().for_each(|name| judge.declare(name));
    for (at, op) in history.ops.iter().enumerate() {
        if op.foreign {
            foreign(judge, at, op);
            continue;
        }
        if let Some(answer) = op.answer() {
            let stray = stray(op, answer);
            judge
                .holds("I22 own answer", stray.is_none(), || (stray.unwrap_or_default(), vec![at]));
        }
    }
    // Calls with the wrong tenant use an end reason that no other call uses.
    for row in &history.tables.sessions {
        judge.holds("I14 no effect", row.end_reason != Some(reason::CREDENTIAL_CHANGED), || {
            let ops = history.of_session(row.id).map(|(at, _)| at).collect();
            (format!("session {} was ended from another tenant", row.id), ops)
        });
    }
    erased(history, judge);
}

/// I14: the answer is that of a missing resource.
fn foreign(judge: &mut Judge, at: usize, op: &Op) {
    let right = match (&op.what, &op.outcome) {
        (_, Outcome::Unknown(_)) => return,
        (What::Get { .. }, Outcome::No(_, reason)) => reason == "SESSION_NOT_FOUND",
        (What::Terminate { .. }, Outcome::Ok(answer)) => answer.session.is_none(),
        (What::Terminate { .. }, Outcome::No(_, reason)) => {
            reason == "REQUEST_ID_REUSED" || reason == "OVERLOADED"
        }
        _ => false,
    };
    judge
        .holds("I14 foreign call", right, || ("not as for what is not there".to_owned(), vec![at]));
}

/// I19: no session of an erased user is shown.
fn erased(history: &History, judge: &mut Judge) {
    let mut gone: HashMap<Uuid, (Micros, usize)> = HashMap::new();
    for (at, op) in history.ops.iter().enumerate() {
        let complete = op.answer().is_some_and(|answer| answer.complete);
        if !matches!(op.what, What::Erase) || !complete {
            continue;
        }
        let asked = history.asked(op);
        for (id, _) in history.births_of(op.who).filter(|(_, birth)| birth.answered < asked) {
            gone.entry(id).or_insert((op.end, at));
        }
    }
    for (id, (when, by)) in gone {
        for (at, op) in history.of_session(id).filter(|(_, op)| op.start > when) {
            // A cached answer may be older by the bound, which I2 checks; the watermark of the call is from before.
            let is_cached =
                matches!(&op.what, What::Validate { how, .. } if !matches!(how, How::Strong));
            if is_cached {
                continue;
            }
            // The answer to a repeated request must not contain the session either.
            let shown = op.answer().is_some_and(|answer| answer.session.is_some());
            judge.holds("I19 erased", !shown, || {
                (format!("shown {} us after the user was erased", op.start - when), vec![by, at])
            });
        }
        judge.holds("I19 erased", history.row(id).is_none(), || {
            (format!("session {id} is in the tables"), vec![by])
        });
    }
}

/// I22: the part of an answer that is not about the resource of the call.
fn stray(op: &Op, answer: &Answer) -> Option<String> {
    let user = &USERS[op.who];
    // For a token that is not valid for its use only the id is shown, and for any inactive token or an end to a caller
    // that may not read sessions.
    let bare = [
        "INACTIVE_REASON_SUPERSEDED",
        "INACTIVE_REASON_TOKEN_EXPIRED",
        "INACTIVE_REASON_WRONG_AUDIENCE",
    ];
    let reads = op.role.is_none_or(|role| role.scopes().has(Scope::SessionRead));
    let reads_own = reads || op.role.is_some_and(|role| role.scopes().has(Scope::AccountRead));
    let is_bare = match op.what {
        What::Terminate { .. } => !reads_own,
        _ => {
            matches!(answer.verdict, Some(Verdict::Inactive(why)) if bare.contains(&why) || !reads)
        }
    };
    let (tenant, name) = if is_bare { ("", "") } else { (user.tenant, user.name) };
    let own = |seen: &Seen| seen.tenant == tenant && seen.user == name;
    let mut shown = answer.session.iter().chain(&answer.sessions);
    if let Some(seen) = shown.find(|seen| !own(seen)) {
        return Some(format!("shows session {} of {}/{}", seen.id, seen.tenant, seen.user));
    }
    let asked = op.session();
    if let (Some(seen), Some(asked)) = (&answer.session, asked)
        && seen.id != asked
    {
        return Some(format!("shows session {}", seen.id));
    }
    if let Some(tokens) = answer.tokens.as_ref().filter(|tokens| Some(tokens.session) != asked) {
        return Some(format!("has tokens of session {}", tokens.session));
    }
    match (&op.what, &answer.session, answer.subject) {
        (What::Create { client, tag, .. }, Some(seen), _) => (seen.client != *client
            || seen.tag != *tag)
            .then(|| format!("is of {}, {}", seen.client, seen.tag)),
        (
            What::UpdateDevice { device: asked } | What::Step { alert: asked, .. },
            _,
            Some((id, ..)),
        ) => (id != *asked).then(|| format!("is about {id}")),
        _ => None,
    }
}
