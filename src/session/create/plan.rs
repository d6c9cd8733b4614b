//! What a transaction of creates will do, decided in memory, one create after the other.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Reason};
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::policy::Policy;
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{End, EndReason, Session};
use crate::session::create::batch::{Admitted, not_ended};
use crate::session::limits;
use crate::store::changes::Changes;

/// Decisions so far, and what they rest on.
pub(super) struct Plan<'a> {
    policy: &'a Policy,
    now: Time,
    live: HashMap<(TenantId, UserId), Vec<Session>>,
    known: HashMap<(TenantId, Uuid), Known>,
    steps: Vec<Step>,
}

enum Known {
    Before(Remembered),
    /// By the step with this index of the same transaction.
    Here(RequestId, usize),
}

enum Step {
    Create {
        session: Box<Session>,
        request: Option<RequestId>,
        victims: Vec<SessionKey>,
    },
    Repeat(Remembered),
    /// The same request twice in one transaction: the answer of that step.
    Same(usize),
    Refuse(Error),
}

/// What became of one create.
pub(super) enum Outcome {
    Admitted(Box<Admitted>),
    /// The answer lies in the rows of the request that is repeated.
    Repeated,
    Refused(Error),
}

/// The whole, ready to write.
pub(super) struct Settled {
    pub changes: Changes,
    pub outcomes: Vec<Outcome>,
}

impl<'a> Plan<'a> {
    /// Nothing decided yet. `live` are the sessions of each user that are not ended, `known` what
    /// the request ids did before.
    pub(super) fn new(
        policy: &'a Policy,
        now: Time,
        live: HashMap<(TenantId, UserId), Vec<Session>>,
        known: Vec<Remembered>,
    ) -> Plan<'a> {
        let known = known
            .into_iter()
            .filter(|request| request.holds_at(now))
            .map(|known| ((known.tenant.clone(), known.request.id), Known::Before(known)))
            .collect();
        Plan { policy, now, live, known, steps: Vec::new() }
    }

    /// Decides on one create, after all before it.
    pub(super) fn admit(&mut self, session: Session, request: Option<RequestId>) {
        let step = match request.and_then(|request| self.repeat(&session, request)) {
            Some(step) => step,
            None => self.create(session, request),
        };
        self.steps.push(step);
    }

    fn repeat(&self, session: &Session, request: RequestId) -> Option<Step> {
        Some(match self.known.get(&(session.key.tenant.clone(), request.id))? {
            Known::Before(before) if before.request == request => Step::Repeat(before.clone()),
            Known::Here(first, step) if *first == request => Step::Same(*step),
            _ => Step::Refuse(Error::RequestIdReused),
        })
    }

    fn create(&mut self, session: Session, request: Option<RequestId>) -> Step {
        let user = (session.key.tenant.clone(), session.key.user.clone());
        let live = self.live.entry(user).or_default();
        let mut victims = match limits::admit(self.policy, live, self.now) {
            Ok(victims) => victims,
            Err(full) => return Step::Refuse(self.limit_reached(full)),
        };
        victims.sort_unstable();
        let victims = victims.into_iter().rev().map(|i| live.swap_remove(i).key).collect();
        live.push(session.clone());
        if let Some(request) = request {
            let id = (session.key.tenant.clone(), request.id);
            self.known.insert(id, Known::Here(request, self.steps.len()));
        }
        Step::Create { session: Box::new(session), request, victims }
    }

    fn limit_reached(&self, full: limits::Full) -> Error {
        let limit = self.policy.max_sessions_per_user;
        Error::Precondition {
            reason: Reason::SessionLimitReached,
            message: format!("the user has {} of {limit} allowed sessions", full.active),
            metadata: vec![("limit", limit.to_string()), ("active", full.active.to_string())],
        }
    }

    /// The sessions to end, among them those that this transaction creates.
    pub(super) fn victims(&self) -> impl Iterator<Item = &SessionKey> {
        self.steps.iter().flat_map(|step| match step {
            Step::Create { victims, .. } => victims.as_slice(),
            _ => &[],
        })
    }

    /// The repeated requests, in order.
    pub(super) fn repeats(&self) -> impl Iterator<Item = Remembered> {
        self.steps.iter().filter_map(|step| match step {
            Step::Repeat(request) => Some(request.clone()),
            _ => None,
        })
    }

    /// Turns the decisions into rows. `locked` are the victims as they are now, under lock: one
    /// that ended meanwhile does not end again. `principal` says who asked for which create.
    pub(super) fn settle<'p>(
        self,
        locked: Vec<Session>,
        principal: impl Fn(usize) -> &'p String,
        clock: &Clock,
    ) -> Settled {
        let now = self.now;
        let activity = |kind, principal: &str, session: &Session| {
            Activity::of_session(clock.new_id(), now, kind, principal, session)
        };
        let mut changes = Changes::default();
        let mut living = not_ended(locked);
        let mut ended: BTreeMap<SessionKey, Session> = BTreeMap::new();
        let mut born: Vec<SessionKey> = Vec::new();
        let mut admitted: Vec<Option<(SessionKey, Vec<SessionKey>)>> = Vec::new();
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        let mut same: Vec<(usize, usize)> = Vec::new();
        for (i, step) in self.steps.into_iter().enumerate() {
            admitted.push(None);
            outcomes.push(None);
            match step {
                Step::Refuse(error) => outcomes[i] = Some(Outcome::Refused(error)),
                Step::Repeat(_) => outcomes[i] = Some(Outcome::Repeated),
                Step::Same(first) => same.push((i, first)),
                Step::Create { session, request, victims } => {
                    let mut gone = Vec::new();
                    for victim in victims {
                        let Some(mut session) = living.remove(&victim) else { continue };
                        session.end(End {
                            reason: EndReason::Limit,
                            at: now,
                            by: None,
                            note: None,
                        });
                        changes.activities.push(activity(
                            ActivityKind::Terminated,
                            SYSTEM,
                            &session,
                        ));
                        ended.insert(victim.clone(), session);
                        gone.push(victim);
                    }
                    changes.activities.push(activity(
                        ActivityKind::Created,
                        principal(i),
                        &session,
                    ));
                    changes.remembered.extend(request.map(|request| Remembered {
                        tenant: session.key.tenant.clone(),
                        request,
                        user: Some(session.key.user.clone()),
                        subject: Some(session.key.session),
                        related: gone.iter().map(|key| key.session).collect(),
                        at: now,
                    }));
                    born.push(session.key.clone());
                    admitted[i] = Some((session.key.clone(), gone));
                    living.insert(session.key.clone(), *session);
                }
            }
        }
        let find = |key: &SessionKey| ended.get(key).or_else(|| living.get(key)).cloned();
        let answer = |(key, gone): &(SessionKey, Vec<SessionKey>)| {
            let session = find(key).expect("a created session lives or has ended");
            let terminated = gone.iter().filter_map(find).collect();
            Outcome::Admitted(Box::new(Admitted { session, terminated }))
        };
        for (i, keys) in admitted.iter().enumerate() {
            if let Some(keys) = keys {
                outcomes[i] = Some(answer(keys));
            }
        }
        for (i, first) in same {
            outcomes[i] = admitted[first].as_ref().map(answer);
        }
        changes.created = born.iter().filter_map(find).collect();
        changes.changed = ended.into_values().filter(|s| !born.contains(&s.key)).collect();
        let outcomes =
            outcomes.into_iter().map(|o| o.expect("each step has its outcome")).collect();
        Settled { changes, outcomes }
    }
}
