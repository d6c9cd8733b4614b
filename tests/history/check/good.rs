//! I13: an active session is never reported inactive, and a valid token never refused as invalid.

use uuid::Uuid;

use crate::history::History;
use crate::judge::Judge;
use crate::record::{Micros, Op, Verdict, What};

/// How closely the clocks of Postgres, of a replica and of the run agree.
const SLACK: Micros = 50_000;

pub fn check(history: &History, judge: &mut Judge) {
    for name in ["I13 validate", "I13 refresh", "I13 no fault"] {
        judge.declare(name);
    }
    for (at, op) in history.ops.iter().enumerate() {
        judge.holds("I13 no fault", op.refusal() != Some("INTERNAL"), || {
            ("a fault of the service".to_owned(), vec![at])
        });
        let Some(id) = op.session().filter(|_| History::is_told(op.who)) else { continue };
        match &op.what {
            What::Validate { generation, .. } => {
                let Some(verdict) = op.answer().and_then(|answer| answer.verdict.as_ref()) else {
                    continue;
                };
                let wrong = match verdict {
                    Verdict::Inactive(reason) => excuse(history, id, op, *generation, reason),
                    _ => None,
                };
                judge.holds("I13 validate", wrong.is_none(), || shown(history, id, at, wrong));
            }
            What::Refresh { .. } => {
                let wrong =
                    op.refusal().and_then(|reason| excuse_of_refusal(history, id, op, reason));
                judge.holds("I13 refresh", wrong.is_none(), || shown(history, id, at, wrong));
            }
            _ => {}
        }
    }
}

fn shown(history: &History, id: Uuid, at: usize, wrong: Option<String>) -> (String, Vec<usize>) {
    let first = history.of_session(id).next().map(|(at, _)| at);
    (wrong.unwrap_or_default(), first.into_iter().chain([at]).collect())
}

/// Why this inactive reason is wrong for the session; `None` if it may be right.
fn excuse(history: &History, id: Uuid, op: &Op, generation: u32, reason: &str) -> Option<String> {
    let reason = reason.strip_prefix("INACTIVE_REASON_").unwrap_or(reason);
    match reason {
        "SESSION_TERMINATED" => not_ended(history, id, op),
        "SESSION_EXPIRED_ABSOLUTE" => {
            let deadline = history.row(id).map(|row| row.absolute)?;
            // A policy may have shortened the deadline; a step-up only moves it later.
            (op.end + SLACK < deadline && !is_renewed(history, id, op))
                .then(|| format!("called too old {} us before its deadline", deadline - op.end))
        }
        "SESSION_EXPIRED_IDLE" => not_idle(history, id, op),
        "SUPERSEDED" => {
            let lowest = history.row(id).map_or(0, |row| row.min_generation);
            (generation >= lowest).then(|| format!("nothing superseded generation {generation}"))
        }
        "TOKEN_EXPIRED" => {
            let tokens = history.of_session(id).filter_map(|(_, op)| op.answer()?.tokens.as_ref());
            let of_it = tokens.filter(|tokens| tokens.generation == generation);
            let expires = of_it.map(|tokens| tokens.expires).min()?;
            (op.end + SLACK < expires).then(|| format!("expired {} us early", expires - op.end))
        }
        other => Some(format!("a genuine token of a known session is {other}")),
    }
}

/// Why this refusal of a genuine token is wrong; `None` if it may be right.
fn excuse_of_refusal(history: &History, id: Uuid, op: &Op, reason: &str) -> Option<String> {
    match reason {
        "REFRESH_TOKEN_INVALID" => Some("a genuine token is called invalid".to_owned()),
        "SESSION_DATA_REGRESSION" => Some("nothing was lost".to_owned()),
        "SESSION_TERMINATED" => not_ended(history, id, op),
        _ => None,
    }
}

fn not_ended(history: &History, id: Uuid, op: &Op) -> Option<String> {
    match history.end(id) {
        None => Some(format!("session {id} never ended")),
        Some(end) if end.committed > op.end + SLACK => {
            Some(format!("called ended {} us before its end", end.committed - op.end))
        }
        Some(_) => None,
    }
}

/// Whether a step-up may have moved the deadlines after the state that the call saw.
fn is_renewed(history: &History, id: Uuid, op: &Op) -> bool {
    let renews =
        |other: &Op| matches!(other.what, What::Reauthenticate { .. }) && !other.is_refused();
    history.of_session(id).any(|(_, other)| renews(other) && other.end > op.start)
}

/// A create, refresh or step-up restarts the idle time. A refresh that may be a retry does not.
fn not_idle(history: &History, id: Uuid, op: &Op) -> Option<String> {
    let repeats = |at: usize, other: &Op| {
        let What::Refresh { generation: presented, .. } = other.what else { return false };
        let same = |op: &Op| matches!(op.what, What::Refresh { generation, .. } if generation == presented);
        history.of_session(id).any(|(of, op)| of != at && same(op) && op.start < other.end)
    };
    let renewing = history.of_session(id).filter(|(at, other)| {
        let renews = matches!(
            other.what,
            What::Create { .. } | What::Refresh { .. } | What::Reauthenticate { .. }
        );
        renews && other.end <= op.start && other.request.is_none() && !repeats(*at, other)
    });
    let timeouts = renewing.filter_map(|(_, other)| {
        let answer = other.answer()?;
        let idle = answer.session.as_ref()?.idle?;
        answer.tokens.as_ref().map(|_| (other.start, idle))
    });
    let (last, idle) = timeouts.max()?;
    let row = history.row(id)?;
    // A policy may have shortened the timeout since.
    let shortened = row.who == crate::users::FREE;
    (!shortened && op.end + SLACK < last + idle)
        .then(|| format!("called idle {} us after it was used, of {idle}", op.end - last))
}
