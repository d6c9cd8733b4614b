//! A run in the form that the checks use, with its indexes.

use std::collections::HashMap;

use uuid::Uuid;

use crate::record::{Micros, Op, Step, What};
use crate::tables::{Change, SessionRow, Tables, kind};
use crate::ticker::Gap;
use crate::users::USERS;
use crate::watch::Watched;

pub struct History {
    /// In the order of their start.
    pub ops: Vec<Op>,
    pub tables: Tables,
    /// The times when the machine did not run this process.
    pub gaps: Vec<Gap>,
    pub watches: Vec<Watched>,
    /// When the tables were read.
    pub read_at: Micros,
    by_session: HashMap<Uuid, Vec<usize>>,
    rows: HashMap<Uuid, usize>,
    trails: HashMap<Uuid, Vec<usize>>,
    births: HashMap<Uuid, Birth>,
    /// By the index of the user.
    births_of: HashMap<usize, Vec<Uuid>>,
    /// When a request with this id was first sent.
    first_sent: HashMap<Uuid, Micros>,
    /// When an alert was, or may have been, first resolved.
    first_resolved: HashMap<Uuid, Micros>,
}

/// The records of a run.
pub struct Left {
    pub ops: Vec<Op>,
    pub tables: Tables,
    pub gaps: Vec<Gap>,
    pub watches: Vec<Watched>,
    pub read_at: Micros,
}

/// The session in the answers to its create.
#[derive(Debug, Clone)]
pub struct Birth {
    pub who: usize,
    pub client: String,
    pub device: Uuid,
    /// When the first of the answers arrived.
    pub answered: Micros,
}

impl History {
    pub fn new(left: Left) -> History {
        let Left { ops, tables, gaps, watches, read_at } = left;
        let mut first_resolved: HashMap<Uuid, Micros> = HashMap::new();
        let mut by_session: HashMap<Uuid, Vec<usize>> = HashMap::new();
        let mut births: HashMap<Uuid, Birth> = HashMap::new();
        let mut first_sent: HashMap<Uuid, Micros> = HashMap::new();
        // A denied call requests nothing.
        for (at, op) in ops.iter().enumerate().filter(|(_, op)| !op.is_denied()) {
            if let Some(session) = op.session() {
                by_session.entry(session).or_default().push(at);
            }
            if let Some((id, _)) = op.request {
                first_sent.entry(id).or_insert(op.start);
            }
            if let What::Step { alert, step: Step::Resolve(_) } = op.what {
                first_resolved.entry(alert).or_insert(op.start);
            }
            if let (What::Create { .. }, Some(answer)) = (&op.what, op.answer())
                && let Some(seen) = &answer.session
            {
                let birth = Birth {
                    who: op.who,
                    client: seen.client.clone(),
                    device: seen.device,
                    answered: op.end,
                };
                let known = births.entry(seen.id).or_insert(birth);
                known.answered = known.answered.min(op.end);
            }
        }
        let mut births_of: HashMap<usize, Vec<Uuid>> = HashMap::new();
        for (id, birth) in &births {
            births_of.entry(birth.who).or_default().push(*id);
        }
        let rows = tables.sessions.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
        let mut trails: HashMap<Uuid, Vec<usize>> = HashMap::new();
        for (at, change) in tables.trail.iter().enumerate() {
            if let Some(session) =
                change.session.filter(|_| kind::OF_SESSIONS.contains(&change.kind))
            {
                trails.entry(session).or_default().push(at);
            }
        }
        History {
            ops,
            tables,
            gaps,
            watches,
            read_at,
            by_session,
            rows,
            trails,
            births,
            births_of,
            first_sent,
            first_resolved,
        }
    }

    /// The calls about each session, in the order of their start.
    pub fn by_session(&self) -> impl Iterator<Item = (Uuid, &[usize])> {
        self.by_session.iter().map(|(id, ops)| (*id, &ops[..]))
    }

    pub fn of_session(&self, id: Uuid) -> impl Iterator<Item = (usize, &Op)> {
        let ops = self.by_session.get(&id).map_or(&[][..], |ops| ops);
        ops.iter().map(|at| (*at, &self.ops[*at]))
    }

    pub fn row(&self, id: Uuid) -> Option<&SessionRow> {
        self.rows.get(&id).map(|at| &self.tables.sessions[*at])
    }

    /// The changes of a session, in the order of their commits.
    pub fn trail(&self, id: Uuid) -> impl DoubleEndedIterator<Item = &Change> {
        let changes = self.trails.get(&id).map_or(&[][..], |changes| changes);
        changes.iter().map(|at| &self.tables.trail[*at])
    }

    /// The row of the trail for the end of a session.
    pub fn end(&self, id: Uuid) -> Option<&Change> {
        self.trail(id).find(|change| [kind::TERMINATED, kind::EXPIRED].contains(&change.kind))
    }

    pub fn birth(&self, id: Uuid) -> Option<&Birth> {
        self.births.get(&id)
    }

    pub fn births(&self) -> impl Iterator<Item = (Uuid, &Birth)> {
        self.births.iter().map(|(id, birth)| (*id, birth))
    }

    /// The births of one user.
    pub fn births_of(&self, who: usize) -> impl Iterator<Item = (Uuid, &Birth)> {
        let of = self.births_of.get(&who);
        of.into_iter().flatten().map(|id| (*id, &self.births[id]))
    }

    /// When the change of a call was first requested: a repeated request counts from its first call.
    pub fn asked(&self, op: &Op) -> Micros {
        let first = op.request.and_then(|(id, _)| self.first_sent.get(&id));
        first.map_or(op.start, |first| op.start.min(*first))
    }

    /// When this alert was, or may have been, first resolved.
    pub fn first_resolved(&self, alert: Uuid) -> Option<Micros> {
        self.first_resolved.get(&alert).copied()
    }

    /// The longest time in this span when the machine did not run this process.
    pub fn longest_gap(&self, from: Micros, to: Micros) -> Micros {
        let within = self.gaps.iter().filter(|gap| gap.end >= from && gap.end - gap.length <= to);
        within.map(|gap| gap.length).max().unwrap_or(0)
    }

    /// True if the tables keep all rows of this user.
    pub fn is_told(who: usize) -> bool {
        !USERS[who].erased
    }
}
