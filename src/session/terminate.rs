//! TerminateSession: ends one session, by its id or by any genuine token of it.

use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::caller::principal::Caller;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::session::{End, EndReason, Session, State};
use crate::model::watermark::Watermark;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{feed, requests, sessions};
use crate::token::issuer::Issuer;
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
    fn end(&self, at: Time) -> End {
        End { reason: self.reason, at, by: Some(self.caller.name.clone()), note: self.note.clone() }
    }
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
    pub async fn terminate(&self, wish: &Termination) -> Result<Terminated> {
        let twice = async {
            match self.attempt(wish).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(wish).await,
                other => other,
            }
        };
        self.db.within(twice).await
    }

    async fn attempt(&self, wish: &Termination) -> Result<Terminated> {
        let now = self.clock.now();
        let named = self.name(wish, now).await?;
        let presented = named.as_ref().and_then(Named::presented);
        let keys = self.issuer.ready_for(presented.into_iter(), now).await?;
        let mut tx = self.db.begin().await?;
        let tenant = named.as_ref().and_then(Named::tenant).unwrap_or(&wish.tenant).clone();
        if let Some(request) = wish.request {
            let known = requests::find(&mut tx, &[(&tenant, request.id)]).await?;
            if let Some(known) = known.into_iter().find(|known| known.holds_at(now)) {
                let session = self.repeat(&mut tx, request, known, now).await;
                let watermark = feed::now(&mut tx).await?.watermark_of_all();
                tx.commit().await?;
                return Ok(Terminated { session: session?, watermark });
            }
        }
        let mut session = match named {
            Some(named) => {
                lock(&mut tx, &tenant, named, |presented, session| {
                    keys.is_genuine(presented, session, now)
                })
                .await?
            }
            None => None,
        };
        let mut changes = Changes::default();
        if let Some(session) = &mut session {
            self.touches.overlay(session);
            if session.state == State::Active {
                changes.end(session, wish.end(now), self.clock.new_id());
            }
        }
        changes.remembered.extend(wish.request.map(|request| Remembered {
            tenant,
            request,
            user: session.as_ref().map(|session| session.key.user.clone()),
            subject: session.as_ref().map(|session| session.key.session),
            related: Vec::new(),
            at: now,
        }));
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        let watermark = match tx.watermark() {
            Some(watermark) => watermark,
            // Whoever ended it has committed.
            None => feed::now(&mut tx).await?.watermark_of_all(),
        };
        tx.commit().await?;
        Ok(Terminated { session: session.map(|session| session.seen_at(now)), watermark })
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

    async fn repeat(
        &self,
        tx: &mut Transaction,
        request: RequestId,
        known: Remembered,
        now: Time,
    ) -> Result<Option<Session>> {
        if known.request != request {
            return Err(Error::RequestIdReused);
        }
        let (Some(user), Some(session)) = (known.user, known.subject) else { return Ok(None) };
        let key = SessionKey { tenant: known.tenant, user, session };
        Ok(sessions::find(tx, &key).await?.map(|session| session.seen_at(now)))
    }
}

async fn lock(
    tx: &mut Transaction,
    tenant: &TenantId,
    named: Named,
    is_genuine: impl Fn(&Presented, &Session) -> bool,
) -> Result<Option<Session>> {
    let (key, presented) = match named {
        Named::Key(key) => (key, None),
        Named::Presented(presented) => (presented.claims.key.clone(), Some(presented)),
        Named::Id(id) => match sessions::find_by_id(tx, tenant, id).await? {
            Some(session) => (session.key, None),
            None => return Ok(None),
        },
    };
    let session = sessions::lock(tx, &[&key]).await?.pop();
    Ok(session.filter(|session| presented.is_none_or(|presented| is_genuine(&presented, session))))
}
