//! ValidateSession: is this access token good now? Reads, and never writes on the way.

use crate::cache::policies::Policies;
use crate::cache::sessions::SessionReader;
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::device::ClientContext;
use crate::model::session::{EndReason, Session, State};
use crate::model::token::{AccessClaims, InactiveReason, StepUpReason};
use crate::session::notice::Notices;
use crate::session::step_up::{self, Requirements};
use crate::session::touch::Touches;
use crate::token::issuer::Issuer;

/// Validates access tokens.
pub struct Validate {
    reader: SessionReader,
    policies: Policies,
    issuer: Issuer,
    touches: Touches,
    notices: Notices,
    clock: Clock,
}

/// What a caller asks about.
pub struct Validation {
    pub token: String,
    /// Where it was presented from.
    pub client: ClientContext,
    /// Who the token must be meant for.
    pub audience: Option<String>,
    pub required: Requirements,
}

/// A judgement about a token, made at `checked_at`.
pub struct Validated {
    pub outcome: Outcome,
    /// The session, where the token is genuine and its session known.
    pub session: Option<Session>,
    /// The moment for which the judgement holds.
    pub checked_at: Time,
}

/// What a token opens.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Active,
    Inactive(InactiveReason),
    /// The token is good, but the user has to prove more first; never without a reason.
    StepUp(Vec<StepUpReason>),
}

impl Validate {
    /// Validates tokens of `issuer` against the sessions of `reader`.
    pub fn new(
        reader: SessionReader,
        policies: Policies,
        issuer: Issuer,
        touches: Touches,
        notices: Notices,
        clock: Clock,
    ) -> Validate {
        Validate { reader, policies, issuer, touches, notices, clock }
    }

    /// Judges a token. Being inactive is an answer, not an error.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`]: it cannot be told.
    pub async fn validate(&self, wish: &Validation) -> Result<Validated> {
        let now = self.clock.now();
        let verdict = |outcome, session| Validated { outcome, session, checked_at: now };
        let claims = match self.issuer.verify(&wish.token) {
            Ok(claims) => claims,
            Err(reason) => {
                self.notices.forged(&wish.token, reason, &wish.client, now);
                return Ok(verdict(Outcome::Inactive(reason), None));
            }
        };
        let Some(mut session) = self.reader.get(&claims.key).await? else {
            return Ok(verdict(Outcome::Inactive(InactiveReason::SessionUnknown), None));
        };
        self.touches.overlay(&mut session);
        let outcome = match judge(&claims, &session, wish.audience.as_deref(), now) {
            Err(reason) => Outcome::Inactive(reason),
            Ok(()) => match self.unmet(&wish.required, &session, now).await? {
                unmet if unmet.is_empty() => Outcome::Active,
                unmet => Outcome::StepUp(unmet),
            },
        };
        if outcome == Outcome::Inactive(InactiveReason::TokenExpired) {
            self.notices.expired(&session, &wish.client, now);
        }
        // The user is there, proven enough or not.
        if !matches!(outcome, Outcome::Inactive(_)) {
            self.notices.seen(&session, &wish.client, now);
            self.touches.note(&session, claims.generation, now);
            session.last_active_at = session.last_active_at.max(now);
        }
        Ok(verdict(outcome, Some(session.seen_at(now))))
    }

    async fn unmet(
        &self,
        required: &Requirements,
        session: &Session,
        now: Time,
    ) -> Result<Vec<StepUpReason>> {
        // The order of classes is the policy's; without a class there is nothing to look up.
        let policy = match required.acr {
            Some(_) => self.policies.of(&session.key.tenant, &session.client).await?,
            None => self.policies.builtin(),
        };
        Ok(step_up::unmet(required, session, &policy.acr_levels, now))
    }
}

fn judge(
    claims: &AccessClaims,
    session: &Session,
    audience: Option<&str>,
    now: Time,
) -> Result<(), InactiveReason> {
    if let State::Ended(end) = session.state_at(now) {
        return Err(match end.reason {
            EndReason::IdleTimeout => InactiveReason::SessionExpiredIdle,
            EndReason::AbsoluteTimeout => InactiveReason::SessionExpiredAbsolute,
            _ => InactiveReason::SessionTerminated,
        });
    }
    if claims.generation < session.chain.min_generation {
        return Err(InactiveReason::Superseded);
    }
    claims.check(now, audience)
}
