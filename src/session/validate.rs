//! ValidateSession: is this access token valid now? A validation reads, and never writes to the database.

use std::borrow::Cow;
use std::time::Instant;

use chrono::Duration;

use crate::cache::policies::Policies;
use crate::cache::sessions::{Reading, SessionReader};
use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::caller::principal::Caller;
use crate::model::device::ClientContext;
use crate::model::freshness::Freshness;
use crate::model::ids::SessionKey;
use crate::model::session::{EndReason, Session, State};
use crate::model::token::{AccessClaims, InactiveReason, StepUpReason};
use crate::model::watermark::Watermark;
use crate::session::observations::Observations;
use crate::session::restore::Cutoff;
use crate::session::step_up::{self, Requirements};
use crate::session::touch::Touches;
use crate::token::issuer::Issuer;

/// Validates access tokens.
pub struct Validate {
    reader: SessionReader,
    policies: Policies,
    issuer: Issuer,
    touches: Touches,
    observations: Observations,
    cutoff: Cutoff,
    clock: Clock,
}

/// A validation request.
pub struct Validation {
    pub token: String,
    /// The client that presented the token.
    pub client: ClientContext,
    /// The audience that the token must have.
    pub audience: Option<String>,
    pub required: Requirements,
    pub freshness: Freshness,
    /// The caller. A tenant that the caller may not access is answered like an unknown session.
    pub caller: Caller,
}

/// The result for a token, as of `checked_at`.
pub struct Validated {
    pub outcome: ValidationOutcome,
    /// The session, if the token is genuine and its session exists.
    pub session: Option<Session>,
    /// The time for which the result holds.
    pub checked_at: Time,
    /// Until when an active result may be reused for the same request.
    pub cacheable_until: Option<Time>,
    /// The watermark of the result, if a session was read.
    pub watermark: Option<Watermark>,
}

/// The outcome of a validation.
#[derive(Debug, PartialEq, Eq)]
pub enum ValidationOutcome {
    Active,
    Inactive(InactiveReason),
    /// The token is valid, but the user has to authenticate again first; there is at least one reason.
    StepUp(Vec<StepUpReason>),
}

impl Validate {
    /// Validates tokens of `issuer` against the sessions of `reader`.
    pub fn new(
        reader: SessionReader,
        policies: Policies,
        issuer: Issuer,
        touches: Touches,
        observations: Observations,
        cutoff: Cutoff,
        clock: Clock,
    ) -> Validate {
        Validate { reader, policies, issuer, touches, observations, cutoff, clock }
    }

    /// Validates a token. Inactive is an answer, not an error.
    ///
    /// # Errors
    /// [`crate::error::Error::NotPermitted`] for an audience that is not the caller's;
    /// [`crate::error::Error::Unavailable`]: the state is unknown.
    pub async fn validate(&self, input: &Validation) -> Result<Validated> {
        input.caller.check_audience(input.audience.as_deref())?;
        let now = self.clock.now();
        // Futures that wait are boxed, so that the future of a cache hit, which does not wait, stays small to move.
        let verified = match self.issuer.verify_now(&input.token, now) {
            Some(verified) => verified,
            None => Box::pin(self.issuer.verify(&input.token, now)).await?,
        };
        let claims = match verified {
            Ok(claims) => claims,
            Err(reason) => {
                self.observations.forged(reason, input, now);
                return Ok(Validated::of_token(reason, now));
            }
        };
        let allowed = input.caller.may_see(&claims.key.tenant);
        let key =
            if allowed { Cow::Borrowed(&claims.key) } else { Cow::Owned(claims.key.nowhere()) };
        let known = self.reader.get_cached(&key, input.freshness);
        let freshness = if known.is_some() { Freshness::Strong } else { input.freshness };
        let (reading, session) = match known.and_then(|known| self.overlaid(known, &claims, now)) {
            Some(decided) => decided,
            None => Box::pin(self.read(&key, &claims, freshness, now)).await?,
        };
        let checked_at = now - age(reading.true_at);
        let judged = |outcome, session| Validated {
            outcome,
            session,
            checked_at,
            cacheable_until: None,
            watermark: Some(reading.watermark),
        };
        let Some(mut session) = session else {
            return Ok(judged(ValidationOutcome::Inactive(InactiveReason::SessionUnknown), None));
        };
        let outcome = match judge(&claims, &session, input, now) {
            Ok(()) if self.cutoff.covers(&session) => {
                ValidationOutcome::Inactive(InactiveReason::SessionTerminated)
            }
            Err(reason) => ValidationOutcome::Inactive(reason),
            Ok(()) => {
                // The policy gives the order of the classes; without a required class it is not needed.
                let policy = match input.required.acr {
                    Some(_) => {
                        Box::pin(self.policies.of(&session.key.tenant, &session.client)).await?
                    }
                    None => self.policies.builtin(),
                };
                match step_up::unmet(&input.required, &session, &policy.acr_levels, now) {
                    unmet if unmet.is_empty() => ValidationOutcome::Active,
                    unmet => ValidationOutcome::StepUp(unmet),
                }
            }
        };
        if outcome == ValidationOutcome::Inactive(InactiveReason::TokenExpired) {
            self.observations.expired(&session, &input.client, now);
        }
        // The user is active, even if a step-up is required.
        if !matches!(outcome, ValidationOutcome::Inactive(_)) {
            self.observations.seen(&session, &input.client, now);
            self.touches.note(&session, claims.generation, now);
            session.last_active_at = session.last_active_at.max(now);
        }
        let cacheable_until = (outcome == ValidationOutcome::Active)
            .then(|| self.cacheable_until(&claims, &session, checked_at))
            .filter(|until| *until > now);
        Ok(Validated { cacheable_until, ..judged(outcome, Some(session.seen_at(now))) })
    }

    /// The session of the token with its unwritten activity. Reads the database if the cached record cannot decide.
    async fn read(
        &self,
        key: &SessionKey,
        claims: &AccessClaims,
        freshness: Freshness,
        now: Time,
    ) -> Result<(Reading, Option<Session>)> {
        #[cfg(debug_assertions)]
        if crate::broken::is("outage-is-logout") && self.reader.ping().await.is_err() {
            let (true_at, watermark) = (Instant::now(), Watermark::default());
            return Ok((Reading { session: None, cached: false, true_at, watermark }, None));
        }
        let reading = self.reader.get(key, freshness).await?;
        if let Some(decided) = self.overlaid(reading, claims, now) {
            return Ok(decided);
        }
        let reading = self.reader.get(key, Freshness::Strong).await?;
        Ok(self.overlaid(reading, claims, now).expect("what the database says decides"))
    }

    /// The session with its unwritten activity; `None` if it is cached and the database may have a newer state.
    fn overlaid(
        &self,
        mut reading: Reading,
        claims: &AccessClaims,
        now: Time,
    ) -> Option<(Reading, Option<Session>)> {
        let mut session = reading.session.take();
        if let Some(session) = &mut session {
            self.touches.overlay(session);
        }
        let doubtful = session.as_ref().is_some_and(|session| is_doubtful(session, claims, now));
        (!doubtful || !reading.cached).then_some((reading, session))
    }

    /// The earliest of the staleness bound, the expiry of the token, and the deadline of the
    /// session without further activity.
    fn cacheable_until(&self, claims: &AccessClaims, session: &Session, checked_at: Time) -> Time {
        let bound = Duration::from_std(self.reader.bound()).unwrap_or(Duration::MAX);
        let expires_at = Time::from_timestamp(claims.expires_at, 0).unwrap_or(checked_at);
        (checked_at + bound).min(expires_at).min(session.deadline())
    }
}

impl Validated {
    /// A result that needs no session: it never changes.
    fn of_token(reason: InactiveReason, now: Time) -> Validated {
        Validated {
            outcome: ValidationOutcome::Inactive(reason),
            session: None,
            checked_at: now,
            cacheable_until: None,
            watermark: None,
        }
    }
}

/// Whether another replica may have newer state without a revocation: activity that keeps the
/// session from being idle, or a refresh.
fn is_doubtful(session: &Session, claims: &AccessClaims, now: Time) -> bool {
    let idle = match session.state_at(now) {
        State::Ended(end) => session.state == State::Active && end.reason == EndReason::IdleTimeout,
        State::Active => false,
    };
    idle || claims.generation > session.chain.generation
}

fn age(true_at: Instant) -> Duration {
    // Times have microseconds in an answer; the age is rounded up, so that no time is too late.
    let micros = true_at.elapsed().as_micros().saturating_add(1);
    i64::try_from(micros).map_or(Duration::MAX, Duration::microseconds)
}

fn judge(
    claims: &AccessClaims,
    session: &Session,
    input: &Validation,
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
    #[cfg(debug_assertions)]
    if crate::broken::is("never-expires") {
        return Ok(());
    }
    claims.check(now, input.audience.as_deref())?;
    if input.caller.accepts(&claims.audiences) {
        Ok(())
    } else {
        Err(InactiveReason::WrongAudience)
    }
}
