//! Decides a transaction of creates in memory, one create after the other.

use std::cmp::Reverse;
use std::collections::HashMap;

use uuid::Uuid;

use crate::error::{Error, Reason, Violation};
use crate::model::conflict::{Conflict, LimitBreach};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::session::{EndReason, Session};
use crate::session::create::NewSession;
use crate::session::create::batch::CreatedSession;
use crate::session::create::conflict;
use crate::session::limits;
use crate::store::changes::Changes;
use crate::token::conflict::ConflictTokens;

/// The most ended sessions in an answer: with metadata, as many as fit in 1 MiB.
const TOLD: usize = 100;

/// The live sessions of the users whose creates may reach a limit.
#[derive(Default)]
pub(super) struct Live {
    /// The sessions of each user that have not ended.
    pub sessions: HashMap<(TenantId, UserId), Vec<Session>>,
    /// The users with more live sessions than are read.
    pub crowded: HashMap<(TenantId, UserId), LimitBreach>,
}

/// A refusal by a limit: the new session, one of the sessions that the limit counted, and the reason.
pub(super) type Limited = (Session, SessionKey, &'static str);

/// The decisions so far, and what they are based on.
pub(super) struct Plan<'a> {
    tokens: &'a ConflictTokens,
    live: Live,
    known: HashMap<(TenantId, Uuid), EarlierRequest>,
    /// The pending writes.
    pub changes: Changes,
    pub limited: Vec<Limited>,
    /// The outcome of each create, in order.
    pub outcomes: Vec<CreateOutcome>,
}

/// The earlier result of a request id, or of the id of a conflict token.
enum EarlierRequest {
    Committed(RecordedRequest),
    /// Decided in this transaction, with the outcome of this index.
    Here(RequestId, usize),
}

/// The outcome of one create.
#[derive(Clone)]
pub(super) enum CreateOutcome {
    Created(Box<CreatedSession>),
    /// The answer is rebuilt from the row that this request recorded.
    Repeated(RecordedRequest),
    Refused(CreateRefusal),
}

/// Why a create is refused.
#[derive(Clone)]
pub(super) enum CreateRefusal {
    RequestIdReused,
    Invalid(Vec<Violation>),
    LimitReached(LimitBreach),
    Conflict(Box<Conflict>),
    ConflictTokenInvalid,
}

impl<'a> Plan<'a> {
    /// Starts without decisions. The sessions in `live` are locked; `known` holds the recorded
    /// results of the request ids and conflict tokens of these creates.
    pub(super) fn new(
        tokens: &'a ConflictTokens,
        changes: Changes,
        live: Live,
        known: Vec<RecordedRequest>,
    ) -> Plan<'a> {
        let known = known
            .into_iter()
            .filter(|request| request.holds_at(changes.at()))
            .map(|known| {
                ((known.tenant.clone(), known.request.id), EarlierRequest::Committed(known))
            })
            .collect();
        Plan { tokens, live, known, changes, limited: vec![], outcomes: vec![] }
    }

    /// Decides one create, whose session would be `session`, after all before it.
    pub(super) fn admit(&mut self, session: Session, new: &NewSession) {
        let repeated = new.request.and_then(|request| self.repeat(&session.key.tenant, request));
        let outcome = repeated.unwrap_or_else(|| self.create(session, new));
        self.outcomes.push(outcome);
    }

    fn repeat(&self, tenant: &TenantId, request: RequestId) -> Option<CreateOutcome> {
        Some(match self.known.get(&(tenant.clone(), request.id))? {
            EarlierRequest::Committed(known) if known.request == request => {
                CreateOutcome::Repeated(known.clone())
            }
            EarlierRequest::Here(first, outcome) if *first == request => {
                self.outcomes[*outcome].clone()
            }
            _ => CreateOutcome::Refused(CreateRefusal::RequestIdReused),
        })
    }

    fn create(&mut self, session: Session, new: &NewSession) -> CreateOutcome {
        if let Err(broken) = &new.timeouts {
            return CreateOutcome::Refused(CreateRefusal::Invalid(broken.clone()));
        }
        let Ok(settling) = self.settling(new) else {
            return CreateOutcome::Refused(CreateRefusal::ConflictTokenInvalid);
        };
        let user = (session.key.tenant.clone(), session.key.user.clone());
        let has_to_count =
            limits::lowest(&new.policy.limits, &session).is_some() || settling.is_some();
        if let Some(breach) = self.live.crowded.get(&user).filter(|_| has_to_count) {
            return CreateOutcome::Refused(CreateRefusal::LimitReached(*breach));
        }
        let live = self.live.sessions.entry(user).or_default();
        let now = self.changes.at();
        let admitted = limits::admit(&new.policy.limits, &session, live, &new.victims);
        let victims = match admitted {
            Ok(victims) => victims,
            Err(refused) => {
                let asked =
                    conflict::ask(refused, live, new, self.tokens, self.changes.new_id(), now);
                let code = match &asked {
                    CreateRefusal::Conflict(_) => "SESSION_CONFLICT",
                    _ => "SESSION_LIMIT_REACHED",
                };
                let other = live.first().map(|other| other.key.clone());
                self.limited.extend(other.map(|other| (session, other, code)));
                return CreateOutcome::Refused(asked);
            }
        };
        // From the back, so that the other indexes stay valid.
        let victims: Vec<Session> =
            victims.into_iter().rev().map(|victim| live.swap_remove(victim)).collect();
        live.push(session.clone());
        let mut terminated = Vec::with_capacity(victims.len());
        for mut victim in victims {
            let chosen = new.victims.contains(&victim.key.session);
            let by = chosen.then_some(new.principal.as_str());
            #[cfg(debug_assertions)]
            if crate::broken::is("spares-victims") && crate::broken::seldom() {
                terminated.push(victim);
                continue;
            }
            if self.changes.end_session(&mut victim, EndReason::Limit, by, None) {
                terminated.push(victim);
            }
        }
        terminated.sort_unstable_by_key(|victim| Reverse(victim.key.session));
        terminated.truncate(TOLD);
        self.changes.create_session(&session, &new.principal);
        let ended: Vec<Uuid> = terminated.iter().map(|victim| victim.key.session).collect();
        if let Some(request) = new.request {
            self.record_request(request, &session, ended);
        }
        if let Some(token) = settling {
            self.record_request(token, &session, Vec::new());
        }
        CreateOutcome::Created(Box::new(CreatedSession { session, terminated, watermark: None }))
    }

    /// The record of the conflict token of the create, if it has one, to be stored once it is used.
    fn settling(&self, new: &NewSession) -> Result<Option<RequestId>, ()> {
        let Some(text) = &new.conflict_token else { return Ok(None) };
        let token = self.tokens.read(new.holder(), text).ok_or(())?;
        let used = self.known.contains_key(&(new.tenant.clone(), token.request.id));
        if used || self.changes.at() >= token.expires_at {
            Err(())
        } else {
            Ok(Some(token.request))
        }
    }

    /// Reserves a request id for the next session.
    fn record_request(&mut self, request: RequestId, session: &Session, related: Vec<Uuid>) {
        #[cfg(debug_assertions)]
        if crate::broken::is("forgets-requests") {
            return;
        }
        let here = EarlierRequest::Here(request, self.outcomes.len());
        self.known.insert((session.key.tenant.clone(), request.id), here);
        let remembered = RecordedRequest::of_session(session, request, self.changes.at());
        self.changes.record_request(RecordedRequest { related, ..remembered });
    }
}

impl From<CreateRefusal> for Error {
    fn from(refusal: CreateRefusal) -> Error {
        match refusal {
            CreateRefusal::RequestIdReused => Error::RequestIdReused,
            CreateRefusal::Invalid(broken) => Error::Invalid(broken),
            CreateRefusal::LimitReached(breach) => Error::Precondition {
                reason: Reason::SessionLimitReached,
                message: breach.to_string(),
                metadata: vec![
                    ("scope", breach.scope.name().to_owned()),
                    ("limit", breach.max.to_string()),
                    ("active", breach.active.to_string()),
                ],
            },
            CreateRefusal::Conflict(conflict) => Error::Conflict(conflict),
            CreateRefusal::ConflictTokenInvalid => Error::Precondition {
                reason: Reason::ConflictTokenInvalid,
                message: "the conflict token is not valid for this create, has expired, or was \
                          used; nothing was done"
                    .to_owned(),
                metadata: Vec::new(),
            },
        }
    }
}
