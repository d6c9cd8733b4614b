//! ValidateSession: is this access token good now? Reads, and never writes on the way.

use crate::cache::sessions::SessionReader;
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::session::{EndReason, Session, State};
use crate::model::token::InactiveReason;
use crate::session::touch::Touches;
use crate::token::issuer::Issuer;

/// Validates access tokens.
pub struct Validate {
    reader: SessionReader,
    issuer: Issuer,
    touches: Touches,
    clock: Clock,
}

/// A judgement about a token, made at `checked_at`.
pub struct Validated {
    /// `None` = active.
    pub inactive: Option<InactiveReason>,
    /// The session, where the token is genuine and its session known.
    pub session: Option<Session>,
    /// The moment for which the judgement holds.
    pub checked_at: Time,
}

impl Validate {
    /// Validates tokens of `issuer` against the sessions of `reader`.
    pub fn new(reader: SessionReader, issuer: Issuer, touches: Touches, clock: Clock) -> Validate {
        Validate { reader, issuer, touches, clock }
    }

    /// Judges `token`, for `audience` if one is given. Being inactive is an answer, not an error.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: it cannot be told.
    pub async fn validate(&self, token: &str, audience: Option<&str>) -> Result<Validated> {
        let now = self.clock.now();
        let verdict = |inactive, session| Validated { inactive, session, checked_at: now };
        let claims = match self.issuer.verify(token) {
            Ok(claims) => claims,
            Err(reason) => return Ok(verdict(Some(reason), None)),
        };
        let Some(mut session) = self.reader.get(&claims.key).await? else {
            return Ok(verdict(Some(InactiveReason::SessionUnknown), None));
        };
        self.touches.overlay(&mut session);
        let inactive = match session.state_at(now) {
            State::Ended(end) => Some(inactive_reason(end.reason)),
            State::Active => claims.check(now, audience).err(),
        };
        if inactive.is_none() {
            self.touches.note(&session, claims.generation, now);
            session.last_active_at = session.last_active_at.max(now);
        }
        Ok(verdict(inactive, Some(session.seen_at(now))))
    }
}

fn inactive_reason(reason: EndReason) -> InactiveReason {
    match reason {
        EndReason::IdleTimeout => InactiveReason::SessionExpiredIdle,
        EndReason::AbsoluteTimeout => InactiveReason::SessionExpiredAbsolute,
        _ => InactiveReason::SessionTerminated,
    }
}
