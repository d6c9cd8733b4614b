//! One transaction of refreshes: lock the sessions, judge each token, write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use chrono::Duration;

use crate::cache::policies::Policies;
use crate::cache::sessions::SessionReader;
use crate::clock::{Clock, Time};
use crate::error::{Error, Reason, Result};
use crate::model::device::ClientContext;
use crate::model::ids::{ClientId, SessionKey, TenantId, UserId};
use crate::model::policy::Policy;
use crate::model::session::{EndReason, Session, State};
use crate::model::user_device::UserDevice;
use crate::session::lanes::LaneWork;
use crate::session::location::Locator;
use crate::session::refresh::{Rate, invalid};
use crate::session::restore::Cutoff;
use crate::session::reuse;
use crate::session::rotation::{RotationVerdict, judge};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::sessions;
use crate::token::access;
use crate::token::issuer::{Issuer, Ready};
use crate::token::refresh::Presented;

/// The shortest remaining lifetime of a token, so that it is valid when it arrives.
const USABLE: Duration = Duration::milliseconds(200);

/// A well-formed token that is not verified yet.
pub(super) struct RefreshJob {
    pub presented: Presented,
    pub client: Option<ClientContext>,
    pub principal: String,
}

/// Everything a transaction of refreshes needs.
pub(super) struct RefreshBatch {
    pub db: Database,
    pub rate: Rate,
    pub clock: Clock,
    pub policies: Policies,
    pub issuer: Issuer,
    pub touches: Touches,
    pub locator: Locator,
    pub reader: SessionReader,
    pub cutoff: Cutoff,
}

impl LaneWork for RefreshBatch {
    type Job = RefreshJob;
    /// The session, the time of the decision, the lifetime of its access tokens, and the keys that were used.
    type Answer = (Session, Time, Duration, Ready);

    fn user(job: &RefreshJob) -> (&TenantId, &UserId) {
        let key = &job.presented.claims.key;
        (&key.tenant, &key.user)
    }

    async fn run(&self, jobs: &[RefreshJob]) -> Result<Vec<Result<Self::Answer>>> {
        let keys: BTreeSet<&SessionKey> =
            jobs.iter().map(|job| &job.presented.claims.key).collect();
        let keys: Vec<&SessionKey> = keys.into_iter().collect();
        let stamp = self.reader.stamp();
        let ready = self.issuer.ready().await?;
        let done =
            self.db.transaction(async |tx| self.judge(tx, jobs, &keys, &ready).await).await?;
        let (answers, written) = done.answer;
        for (session, ..) in answers.iter().flatten() {
            self.reader.insert(stamp, session, written);
        }
        Ok(answers)
    }
}

type RefreshAnswers = Vec<Result<<RefreshBatch as LaneWork>::Answer>>;

impl RefreshBatch {
    /// The answers in the order of the jobs, and a moment at which the transaction still held the locks.
    async fn judge(
        &self,
        tx: &mut Transaction,
        jobs: &[RefreshJob],
        keys: &[&SessionKey],
        ready: &Ready,
    ) -> Result<(RefreshAnswers, Instant)> {
        let locked = sessions::lock(tx, keys).await?;
        let changes = Changes::new(&self.clock);
        let now = changes.at();
        let mac = ready.current_mac(now)?;
        let mut work = Decisions { batch: self, ready: ready.clone(), mac, now, changes };
        let scopes: Vec<(&TenantId, &ClientId)> =
            locked.iter().map(|session| (&session.key.tenant, &session.client)).collect();
        let policies = self.policies.all_of(tx, &scopes).await?;
        let held = locked.into_iter().zip(policies);
        let mut sessions: BTreeMap<SessionKey, Held> =
            held.map(|(session, policy)| (session.key.clone(), Held { session, policy })).collect();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            answers.push(match sessions.get_mut(&job.presented.claims.key) {
                Some(held) => work.decide(held, job).map(|()| {
                    (held.session.clone(), now, held.policy.access_token_ttl, ready.clone())
                }),
                None => Err(invalid()),
            });
        }
        work.changes.write(tx).await?;
        #[cfg(debug_assertions)]
        if crate::broken::is("mixed-answers") {
            answers.reverse();
        }
        Ok((answers, Instant::now()))
    }
}

/// A locked session, and its policy.
struct Held {
    session: Session,
    policy: Arc<Policy>,
}

struct Decisions<'a> {
    batch: &'a RefreshBatch,
    ready: Ready,
    /// The MAC key of new generations.
    mac: i16,
    now: Time,
    changes: Changes,
}

impl Decisions<'_> {
    /// Decides on one token and changes its session accordingly. On Ok the current generation is the answer.
    fn decide(&mut self, held: &mut Held, job: &RefreshJob) -> Result<()> {
        let Held { session, policy } = held;
        let presented = job.presented.claims.generation;
        if !self.ready.is_genuine(&job.presented, session, self.now) {
            return Err(invalid());
        }
        self.batch.touches.overlay(session);
        #[cfg(debug_assertions)]
        if crate::broken::is("refreshes-ended") && session.state != State::Active {
            self.changes.record_refresh(session, &job.principal);
            return Ok(());
        }
        self.batch.cutoff.apply(session, &mut self.changes);
        if let State::Ended(end) = session.state_at(self.now) {
            let settled = session.settled_at(self.now, self.batch.touches.settled_after());
            // While time is in doubt the token is refused, but the session does not end.
            if session.state == State::Active
                && let State::Ended(expiry) = settled
                && self.batch.clock.is_settled()
            {
                self.changes.expire_session(session, expiry);
            }
            return Err(ended(end.reason));
        }
        // The quota applies only to verdicts that do not end the session.
        let verdict = judge(&session.chain, presented, self.now, policy);
        let (ttl, usable) = (policy.access_token_ttl, self.now + USABLE);
        if matches!(verdict, RotationVerdict::Rotate | RotationVerdict::Replay)
            && access::latest(session) < usable
        {
            // The absolute deadline is so near that a token, in whole seconds, would not be valid on arrival.
            return Err(ended(EndReason::AbsoluteTimeout));
        }
        // A retry is not activity.
        if verdict == RotationVerdict::Replay && access::expires_at(session, self.now, ttl) < usable
        {
            return Err(ended(EndReason::IdleTimeout));
        }
        match verdict {
            RotationVerdict::Replay => return self.batch.rate.count(&session.key.session),
            RotationVerdict::Rotate => {
                self.batch.rate.count(&session.key.session)?;
                self.rotate(session);
                self.meet(session, job.client.as_ref());
                self.changes.refresh_session(session, &job.principal);
                return Ok(());
            }
            RotationVerdict::Superseded => return Err(superseded()),
            RotationVerdict::Reuse | RotationVerdict::Regression => {}
        }
        let id = self.batch.clock.new_id();
        let (alert, end_reason, reason) = if presented < session.chain.generation {
            let alert = reuse::reuse(id, self.now, session, presented, job.client.as_ref());
            (alert, EndReason::RefreshReuse, Reason::RefreshTokenReused)
        } else {
            let alert = reuse::regression(id, self.now, session, presented);
            (alert, EndReason::DataRegression, Reason::SessionDataRegression)
        };
        #[cfg(debug_assertions)]
        if crate::broken::is("two-alerts") {
            let (id, dedup_key) = (self.batch.clock.new_id(), format!("{}again", alert.dedup_key));
            let another = crate::model::alert::Alert { id, dedup_key, ..alert.clone() };
            self.changes.raise_alert(another);
        }
        self.changes.raise_alert(alert);
        self.changes.end_session(session, end_reason, None, None);
        Err(Error::RefreshRefused { reason, ended: Some(end_reason) })
    }

    fn rotate(&self, session: &mut Session) {
        let chain = &mut session.chain;
        // A presented generation proves that the client received it.
        chain.confirmed = chain.generation;
        chain.generation += 1;
        chain.key_id = self.mac;
        chain.rotated_at = self.now;
        session.last_active_at = session.last_active_at.max(self.now);
    }

    /// Stores what the client states. The device is written only if that changes it, so a plain
    /// refresh costs no extra write.
    fn meet(&mut self, session: &mut Session, client: Option<&ClientContext>) {
        let look_up = |ip| self.batch.locator.locate(ip);
        if client.is_some_and(|client| session.locate(client, look_up)) {
            self.changes.see_device(UserDevice::of_session(session));
        }
    }
}

/// A re-authentication replaced these tokens; the session is unchanged.
fn superseded() -> Error {
    Error::RefreshRefused { reason: Reason::RefreshTokenSuperseded, ended: None }
}

fn ended(reason: EndReason) -> Error {
    Error::RefreshRefused { reason: Reason::of_end(reason), ended: Some(reason) }
}
