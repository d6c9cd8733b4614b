//! TerminateSession: ends one session, by its id or by any genuine token of it.

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::caller::principal::Caller;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
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
    /// Of a target by id; a token names its own.
    pub tenant: TenantId,
    pub target: Target,
    /// Never one of the service's own.
    pub reason: EndReason,
    /// At most 512 characters.
    pub note: Option<String>,
    pub request: Option<RequestId>,
    /// Who calls. A token of a tenant that is not the caller's names no session.
    pub caller: Caller,
}

/// What became of it.
pub struct Terminated {
    /// `None` if the target names none.
    pub session: Option<Session>,
    /// What includes the end.
    pub watermark: Watermark,
}

/// Which session.
pub enum Target {
    /// By id; naming the user makes the look-up cheap.
    Id { user: Option<UserId>, session: Uuid },
    /// By a genuine refresh token of any generation.
    RefreshToken(String),
    /// By a genuine access token, expired or not.
    AccessToken(String),
}

impl Termination {
    /// What stands for a session of a tenant that is not the caller's: one of the caller's own that is not there.
    fn foreign(&self, key: &SessionKey) -> Option<Named> {
        let nowhere = || Named::Key(SessionKey { tenant: self.tenant.clone(), ..key.nowhere() });
        (!self.caller.may_know(&key.tenant)).then(nowhere)
    }
}

/// A target that names a session, if not more.
enum Named {
    Key(SessionKey),
    Id(Uuid),
    Presented(Box<Presented>),
}

impl Named {
    /// A token names its tenant itself.
    fn tenant(&self) -> Option<&TenantId> {
        match self {
            Named::Key(key) => Some(&key.tenant),
            Named::Presented(presented) => Some(&presented.claims.key.tenant),
            Named::Id(_) => None,
        }
    }

    fn presented(&self) -> Option<&Presented> {
        if let Named::Presented(presented) = self { Some(presented) } else { None }
    }
}

impl Terminate {
    /// Terminates sessions of `db`.
    pub fn new(db: Database, clock: Clock, issuer: Issuer, touches: Touches) -> Terminate {
        Terminate { db, clock, issuer, touches }
    }

    /// Ends the session and returns it; `None` if the target names none. A session that ended
    /// before stays as it ended. Once this returned ok, the end is final.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    ///
    /// [`Error::RequestIdReused`]: crate::error::Error::RequestIdReused
    /// [`Error::Unavailable`]: crate::error::Error::Unavailable
    pub async fn terminate(&self, wish: &Termination) -> Result<Terminated> {
        let now = self.clock.now();
        let named = self.name(wish, now).await?;
        let presented = named.as_ref().and_then(Named::presented);
        let keys = self.issuer.ready_for(presented.into_iter(), now).await?;
        let tenant = named.as_ref().and_then(Named::tenant).unwrap_or(&wish.tenant).clone();
        #[cfg(debug_assertions)]
        let tenant = match &named {
            Some(Named::Id(_)) if crate::broken::is("any-tenant") => TenantId::default(),
            _ => tenant,
        };
        let wish = Resolved { wish, tenant, named, keys };
        let done = mutation::run(&self.db, &self.clock, self, &wish).await?;
        let watermark = watermark::including(&self.db, done.watermark).await?;
        Ok(Terminated { session: done.answer, watermark })
    }

    /// What the target says before anything is read. An expired access token still names its
    /// session: logging out must work with the token at hand.
    async fn name(&self, wish: &Termination, now: Time) -> Result<Option<Named>> {
        Ok(match &wish.target {
            Target::Id { user: None, session } => Some(Named::Id(*session)),
            Target::Id { user: Some(user), session } => Some(Named::Key(SessionKey {
                tenant: wish.tenant.clone(),
                user: user.clone(),
                session: *session,
            })),
            Target::AccessToken(token) => {
                let claims = self.issuer.verify(token, now).await?.ok();
                claims.map(|claims| {
                    wish.foreign(&claims.key).unwrap_or_else(|| Named::Key(claims.key.clone()))
                })
            }
            Target::RefreshToken(token) => refresh::decode(token).map(|presented| {
                let foreign = wish.foreign(&presented.claims.key);
                foreign.unwrap_or_else(|| Named::Presented(Box::new(presented)))
            }),
        })
    }
}

/// A termination whose target is read.
struct Resolved<'a> {
    wish: &'a Termination,
    tenant: TenantId,
    named: Option<Named>,
    keys: Ready,
}

impl<'a> Mutation<Resolved<'a>> for Terminate {
    type Locked = Option<Session>;
    type Answer = Option<Session>;

    fn request<'w>(of: &'w Resolved<'a>) -> Option<(&'w TenantId, RequestId)> {
        Some((&of.tenant, of.wish.request?))
    }

    async fn lock(&self, tx: &mut Transaction, of: &Resolved<'a>) -> Result<Option<Session>> {
        let (key, presented) = match &of.named {
            None => return Ok(None),
            Some(Named::Key(key)) => (key.clone(), None),
            Some(Named::Presented(presented)) => (presented.claims.key.clone(), Some(presented)),
            Some(Named::Id(id)) => match sessions::find_by_id(tx, &of.tenant, *id).await? {
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
        known: Remembered,
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
        let Resolved { wish, tenant, .. } = of;
        if let Some(session) = &mut session {
            match &session.state {
                State::Active => {
                    let by = Some(wish.caller.name.as_str());
                    changes.end_session(session, wish.reason, by, wish.note.clone());
                }
                // Those who verify its tokens themselves do not know that it was idle.
                State::Ended(end) if end.reason.is_expiry() => changes.withdraw_tokens(session),
                State::Ended(_) => {
                    tx.invalidate(Revocation::of_all_tokens(session, changes.at()));
                }
            }
        }
        if let Some(request) = wish.request {
            changes.remember(Remembered {
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
