//! What a transaction of creates does, decided in memory, one create after the other. Pure, but
//! for the ids of activities.

use std::collections::HashMap;

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Reason};
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{End, EndReason, Session};
use crate::session::create::NewSession;
use crate::session::create::batch::Admitted;
use crate::session::limits;
use crate::store::changes::Changes;

/// The sessions of each user that are not ended.
pub(super) type Live = HashMap<(TenantId, UserId), Vec<Session>>;

/// Decisions so far, and what they rest on.
pub(super) struct Plan<'a> {
    clock: &'a Clock,
    now: Time,
    live: Live,
    known: HashMap<(TenantId, Uuid), Known>,
    /// What to write.
    pub changes: Changes,
    /// What became of each create, in order.
    pub outcomes: Vec<Outcome>,
}

/// What a request id did before.
enum Known {
    Committed(Remembered),
    /// In this transaction, with the outcome of this index.
    Here(RequestId, usize),
}

/// What became of one create.
#[derive(Clone)]
pub(super) enum Outcome {
    Admitted(Box<Admitted>),
    /// The answer lies in the rows that this request left.
    Repeated(Remembered),
    Refused(Refusal),
}

/// Why a create is refused.
#[derive(Clone)]
pub(super) enum Refusal {
    RequestIdReused,
    LimitReached { limit: u32, active: usize },
}

impl<'a> Plan<'a> {
    /// Nothing decided yet. The sessions in `live` are locked; `known` is what the request ids of
    /// these creates did before.
    pub(super) fn new(clock: &'a Clock, now: Time, live: Live, known: Vec<Remembered>) -> Plan<'a> {
        let known = known
            .into_iter()
            .filter(|request| request.holds_at(now))
            .map(|known| ((known.tenant.clone(), known.request.id), Known::Committed(known)))
            .collect();
        let (changes, outcomes) = (Changes::default(), Vec::new());
        Plan { clock, now, live, known, changes, outcomes }
    }

    /// Decides on one create, which is to make `session`, after all before it.
    pub(super) fn admit(&mut self, session: Session, new: &NewSession) {
        let repeated = new.request.and_then(|request| self.repeat(&session.key.tenant, request));
        let outcome = repeated.unwrap_or_else(|| self.create(session, new));
        self.outcomes.push(outcome);
    }

    fn repeat(&self, tenant: &TenantId, request: RequestId) -> Option<Outcome> {
        Some(match self.known.get(&(tenant.clone(), request.id))? {
            Known::Committed(known) if known.request == request => Outcome::Repeated(known.clone()),
            Known::Here(first, outcome) if *first == request => self.outcomes[*outcome].clone(),
            _ => Outcome::Refused(Refusal::RequestIdReused),
        })
    }

    fn create(&mut self, session: Session, new: &NewSession) -> Outcome {
        let limit = new.policy.limits.user.max;
        let user = (session.key.tenant.clone(), session.key.user.clone());
        let live = self.live.entry(user).or_default();
        let mut victims = match limits::admit(&new.policy, live, self.now) {
            Ok(victims) => victims,
            Err(limits::Full { active }) => {
                return Outcome::Refused(Refusal::LimitReached { limit, active });
            }
        };
        // From the back, so that the other indexes stay right.
        victims.sort_unstable_by(|a, b| b.cmp(a));
        let mut terminated: Vec<Session> =
            victims.into_iter().map(|victim| live.swap_remove(victim)).collect();
        live.push(session.clone());
        for victim in &mut terminated {
            victim.end(End { reason: EndReason::Limit, at: self.now, by: None, note: None });
            self.record(ActivityKind::Terminated, SYSTEM, victim);
            self.write_end(victim);
        }
        self.record(ActivityKind::Created, &new.principal, &session);
        self.changes.created.push(session.clone());
        if let Some(request) = new.request {
            let tenant = session.key.tenant.clone();
            self.known.insert((tenant, request.id), Known::Here(request, self.outcomes.len()));
            self.changes.remembered.push(Remembered {
                tenant: session.key.tenant.clone(),
                request,
                user: Some(session.key.user.clone()),
                subject: Some(session.key.session),
                related: terminated.iter().map(|victim| victim.key.session).collect(),
                at: self.now,
            });
        }
        Outcome::Admitted(Box::new(Admitted { session, terminated }))
    }

    /// A victim may be a session that this very transaction creates.
    fn write_end(&mut self, victim: &Session) {
        match self.changes.created.iter_mut().find(|created| created.key == victim.key) {
            Some(created) => created.state = victim.state.clone(),
            None => self.changes.changed.push(victim.clone()),
        }
    }

    fn record(&mut self, kind: ActivityKind, principal: &str, session: &Session) {
        let id = self.clock.new_id();
        self.changes.activities.push(Activity::of_session(id, self.now, kind, principal, session));
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::RequestIdReused => Error::RequestIdReused,
            Refusal::LimitReached { limit, active } => Error::Precondition {
                reason: Reason::SessionLimitReached,
                message: format!("the user has {active} of {limit} allowed sessions"),
                metadata: vec![("limit", limit.to_string()), ("active", active.to_string())],
            },
        }
    }
}
