//! TerminateSession: ends one session, by its id or by any genuine token of it.

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::caller::principal::Caller;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::revocation::Revocation;
use crate::model::session::{EndReason, Session, State};
use crate::model::watermark::Watermark;
use crate::session::mutation::{self, Mutation};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{sessions, watermark};
use crate::token::issuer::{Issuer, Ready};
use crate::token::refresh::{self, Presented};

/// Terminates sessions.
pub struct Terminate {
    db: Database,
    clock: Clock,
    issuer: Issuer,
    touches: Touches,
}

/// What a caller asks for.
pub struct Termination {
    /// The tenant of a target by id; a token names its own.
    pub tenant: TenantId,
    pub target: TerminationTarget,
    /// Never one of the service's own.
    pub reason: EndReason,
    /// At most 512 characters.
    pub note: Option<String>,
    pub request: Option<RequestId>,
    /// The caller. A token of a tenant that the caller may not access names no session.
    pub caller: Caller,
}

/// The result of a termination.
pub struct TerminationResult {
    /// `None` if the target names no session.
    pub session: Option<Session>,
    /// A watermark that includes the end.
    pub watermark: Watermark,
}

/// The session to end.
pub enum TerminationTarget {
    /// By id; naming the user makes the query cheap.
    Id { user: Option<UserId>, session: Uuid },
    /// By a genuine refresh token of any generation.
    RefreshToken(String),
    /// By a genuine access token, expired or not.
    AccessToken(String),
}

impl Termination {
    /// Replaces a session of a tenant that the caller may not access by a missing one of the caller's own tenant.
    fn foreign(&self, key: &SessionKey) -> Option<NamedSession> {
        (!self.caller.may_see(&key.tenant)).then(|| self.nowhere(key))
    }

    fn nowhere(&self, key: &SessionKey) -> NamedSession {
        NamedSession::Key(SessionKey { tenant: self.tenant.clone(), ..key.nowhere() })
    }
}

/// A target, resolved as far as a session is named.
enum NamedSession {
    Key(SessionKey),
    Id(Uuid),
    Presented(Box<Presented>),
}

impl NamedSession {
    /// A token names its tenant itself.
    fn tenant(&self) -> Option<&TenantId> {
        match self {
            NamedSession::Key(key) => Some(&key.tenant),
            NamedSession::Presented(presented) => Some(&presented.claims.key.tenant),
            NamedSession::Id(_) => None,
        }
    }

    fn presented(&self) -> Option<&Presented> {
        if let NamedSession::Presented(presented) = self { Some(presented) } else { None }
    }
}

impl Terminate {
    /// Terminates sessions of `db`.
    pub fn new(db: Database, clock: Clock, issuer: Issuer, touches: Touches) -> Terminate {
        Terminate { db, clock, issuer, touches }
    }

    /// Ends the session and returns it; `None` if the target names none. A session that ended
    /// before keeps its end. Once this returns Ok, the end is final.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    ///
    /// [`Error::RequestIdReused`]: crate::error::Error::RequestIdReused
    /// [`Error::Unavailable`]: crate::error::Error::Unavailable
    pub async fn terminate(&self, input: &Termination) -> Result<TerminationResult> {
        let now = self.clock.now();
        let named = self.name(input, now).await?;
        let presented = named.as_ref().and_then(NamedSession::presented);
        let keys = self.issuer.ready_for(presented.into_iter(), now).await?;
        let tenant = named.as_ref().and_then(NamedSession::tenant).unwrap_or(&input.tenant).clone();
        #[cfg(debug_assertions)]
        let tenant = match &named {
            Some(NamedSession::Id(_)) if crate::broken::is("any-tenant") => TenantId::default(),
            _ => tenant,
        };
        let input = Resolved { input, tenant, named, keys };
        let done = mutation::run(&self.db, &self.clock, self, &input).await?;
        let watermark = watermark::including(&self.db, done.watermark).await?;
        Ok(TerminationResult { session: done.answer, watermark })
    }

    /// Resolves the target before any read. An expired access token still names its session: a
    /// logout must work with the token at hand.
    async fn name(&self, input: &Termination, now: Time) -> Result<Option<NamedSession>> {
        Ok(match &input.target {
            TerminationTarget::Id { user: None, session } => Some(NamedSession::Id(*session)),
            TerminationTarget::Id { user: Some(user), session } => {
                Some(NamedSession::Key(SessionKey {
                    tenant: input.tenant.clone(),
                    user: user.clone(),
                    session: *session,
                }))
            }
            TerminationTarget::AccessToken(token) => {
                let claims = self.issuer.verify(token, now).await?.ok();
                claims.map(|claims| {
                    // A token for another audience is not the caller's to act upon, as if it were of another tenant.
                    let foreign = match input.caller.accepts(&claims.audiences) {
                        true => input.foreign(&claims.key),
                        false => Some(input.nowhere(&claims.key)),
                    };
                    foreign.unwrap_or_else(|| NamedSession::Key(claims.key.clone()))
                })
            }
            TerminationTarget::RefreshToken(token) => refresh::decode(token).map(|presented| {
                let foreign = input.foreign(&presented.claims.key);
                foreign.unwrap_or_else(|| NamedSession::Presented(Box::new(presented)))
            }),
        })
    }
}

/// A termination with a resolved target.
struct Resolved<'a> {
    input: &'a Termination,
    tenant: TenantId,
    named: Option<NamedSession>,
    keys: Ready,
}

impl<'a> Mutation<Resolved<'a>> for Terminate {
    type Locked = Option<Session>;
    type Answer = Option<Session>;

    fn request<'w>(of: &'w Resolved<'a>) -> Option<(&'w TenantId, RequestId)> {
        Some((&of.tenant, of.input.request?))
    }

    async fn lock(&self, tx: &mut Transaction, of: &Resolved<'a>) -> Result<Option<Session>> {
        let (key, presented) = match &of.named {
            None => return Ok(None),
            Some(NamedSession::Key(key)) => (key.clone(), None),
            Some(NamedSession::Presented(presented)) => {
                (presented.claims.key.clone(), Some(presented))
            }
            Some(NamedSession::Id(id)) => match sessions::find_by_id(tx, &of.tenant, *id).await? {
                Some(session) => (session.key, None),
                None => return Ok(None),
            },
        };
        let session = sessions::lock(tx, &[&key]).await?.pop();
        let now = self.clock.now();
        let is_meant = |session: &Session| {
            presented.is_none_or(|presented| of.keys.is_genuine(presented, session, now))
        };
        Ok(session.filter(is_meant).map(|mut session| {
            self.touches.overlay(&mut session);
            session
        }))
    }

    async fn repeat(
        &self,
        tx: &mut Transaction,
        _: &Resolved<'a>,
        _: Option<Session>,
        known: RecordedRequest,
        now: Time,
    ) -> Result<Option<Session>> {
        let (Some(user), Some(session)) = (known.user, known.subject) else { return Ok(None) };
        let key = SessionKey { tenant: known.tenant, user, session };
        let session = sessions::find(tx, &key).await?;
        if let Some(session) = &session {
            tx.invalidate(Revocation::of_all_tokens(session, now));
        }
        Ok(session.map(|session| session.seen_at(now)))
    }

    async fn decide(
        &self,
        tx: &mut Transaction,
        of: &Resolved<'a>,
        mut session: Option<Session>,
        changes: &mut Changes,
    ) -> Result<Option<Session>> {
        let Resolved { input, tenant, .. } = of;
        if let Some(session) = &mut session {
            match &session.state {
                State::Active => {
                    let by = Some(input.caller.name.as_str());
                    changes.end_session(session, input.reason, by, input.note.clone());
                }
                // Gateways that verify its tokens themselves do not know of the idle timeout.
                State::Ended(end) if end.reason.is_expiry() => changes.withdraw_tokens(session),
                State::Ended(_) => {
                    tx.invalidate(Revocation::of_all_tokens(session, changes.at()));
                }
            }
        }
        if let Some(request) = input.request {
            changes.record_request(RecordedRequest {
                tenant: tenant.clone(),
                request,
                user: session.as_ref().map(|session| session.key.user.clone()),
                subject: session.as_ref().map(|session| session.key.session),
                related: Vec::new(),
                at: changes.at(),
            });
        }
        Ok(session.map(|session| session.seen_at(changes.at())))
    }
}
