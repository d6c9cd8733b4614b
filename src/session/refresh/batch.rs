//! One transaction of refreshes: lock the sessions, judge each token, write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use chrono::Duration;

use crate::cache::policies::Policies;
use crate::cache::sessions::SessionReader;
use crate::clock::{Clock, Time};
use crate::error::{Error, Reason, Result};
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::device::ClientContext;
use crate::model::ids::{ClientId, SessionKey, TenantId, UserId};
use crate::model::policy::Policy;
use crate::model::session::{End, EndReason, Session, State};
use crate::model::user_device::UserDevice;
use crate::session::lanes::Work;
use crate::session::location::Locator;
use crate::session::refresh::{Rate, invalid};
use crate::session::reuse;
use crate::session::rotation::{Verdict, judge};
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::sessions;
use crate::token::issuer::{Issuer, Ready};
use crate::token::refresh::Presented;

/// A well-formed token, not yet proven.
pub(super) struct Job {
    pub presented: Presented,
    pub client: Option<ClientContext>,
    pub principal: String,
}

/// Everything a transaction of refreshes needs.
pub(super) struct Batch {
    pub db: Database,
    pub rate: Rate,
    pub clock: Clock,
    pub policies: Policies,
    pub issuer: Issuer,
    pub touches: Touches,
    pub locator: Locator,
    pub reader: SessionReader,
}

impl Work for Batch {
    type Job = Job;
    /// The session, when it was judged, how long an access token of it lives, and the keys it was judged by.
    type Answer = (Session, Time, Duration, Ready);

    fn user(job: &Job) -> (&TenantId, &UserId) {
        let key = &job.presented.claims.key;
        (&key.tenant, &key.user)
    }

    async fn run(&self, jobs: &[Job]) -> Result<Vec<Result<Self::Answer>>> {
        let keys: BTreeSet<&SessionKey> =
            jobs.iter().map(|job| &job.presented.claims.key).collect();
        let keys: Vec<&SessionKey> = keys.into_iter().collect();
        let mark = self.reader.mark();
        let presented = jobs.iter().map(|job| &job.presented);
        let ready = self.issuer.ready_for(presented, self.clock.now()).await?;
        let mut tx = self.db.begin().await?;
        let locked = sessions::lock(&mut tx, &keys).await?;
        let now = self.clock.now();
        let mac = ready.current_mac(now)?;
        let mut work =
            Decisions { batch: self, ready: ready.clone(), mac, now, changes: Changes::default() };
        let scopes: Vec<(&TenantId, &ClientId)> =
            locked.iter().map(|session| (&session.key.tenant, &session.client)).collect();
        let policies = self.policies.all_of(&mut tx, &scopes).await?;
        let mut sessions: BTreeMap<SessionKey, Held> = locked
            .into_iter()
            .zip(policies)
            .map(|(session, policy)| {
                (session.key.clone(), Held { session, policy, changed: false })
            })
            .collect();
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            answers.push(match sessions.get_mut(&job.presented.claims.key) {
                Some(held) => work.decide(held, job).map(|()| {
                    (held.session.clone(), now, held.policy.access_token_ttl, ready.clone())
                }),
                None => Err(invalid()),
            });
        }
        let mut changes = work.changes;
        let changed = sessions.into_values().filter(|held| held.changed).map(|held| held.session);
        // One that waits for a step-up still does: tokens of the new generation are not for use either.
        let moves =
            |session: &Session| session.state == State::Active && session.step_up_at.is_none();
        (changes.moved, changes.changed) = changed.partition(moves);
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        let written = Instant::now();
        tx.commit().await?;
        for (session, ..) in answers.iter().flatten() {
            self.reader.keep(mark, session, written);
        }
        #[cfg(feature = "broken")]
        if crate::broken::is("mixed-answers") {
            answers.reverse();
        }
        Ok(answers)
    }
}

/// A locked session, the policy it is under, and whether it is to be written.
struct Held {
    session: Session,
    policy: Arc<Policy>,
    changed: bool,
}

struct Decisions<'a> {
    batch: &'a Batch,
    ready: Ready,
    /// Of new generations.
    mac: i16,
    now: Time,
    changes: Changes,
}

impl Decisions<'_> {
    /// Judges one token and changes its session accordingly. Ok = its present generation is the
    /// answer.
    fn decide(&mut self, held: &mut Held, job: &Job) -> Result<()> {
        let Held { session, policy, changed } = held;
        let presented = job.presented.claims.generation;
        if !self.ready.is_genuine(&job.presented, session, self.now) {
            return Err(invalid());
        }
        self.batch.touches.overlay(session);
        #[cfg(feature = "broken")]
        if crate::broken::is("refreshes-ended") && session.state != State::Active {
            self.record(ActivityKind::Refreshed, &job.principal, session);
            return Ok(());
        }
        if let State::Ended(end) = session.state_at(self.now) {
            if session.state == State::Active && session.settled_at(self.now) != State::Active {
                session.state = State::Ended(end.clone());
                self.record(ActivityKind::Expired, SYSTEM, session);
                *changed = true;
            }
            return Err(ended(end.reason));
        }
        // What ends the session is never held up by its being refreshed too often.
        match judge(&session.chain, presented, self.now, policy) {
            Verdict::Replay => return self.batch.rate.count(&session.key.session),
            Verdict::Rotate => {
                self.batch.rate.count(&session.key.session)?;
                self.rotate(session);
                self.meet(session, job.client.as_ref());
                self.record(ActivityKind::Refreshed, &job.principal, session);
                *changed = true;
                return Ok(());
            }
            Verdict::Superseded => return Err(superseded()),
            Verdict::Reuse | Verdict::Regression => {}
        }
        *changed = true;
        let id = self.batch.clock.new_id();
        let (alert, end_reason, reason) = if presented < session.chain.generation {
            let alert = reuse::reuse(id, self.now, session, presented, job.client.as_ref());
            (alert, EndReason::RefreshReuse, Reason::RefreshTokenReused)
        } else {
            let alert = reuse::regression(id, self.now, session, presented);
            (alert, EndReason::DataRegression, Reason::SessionDataRegression)
        };
        #[cfg(feature = "broken")]
        if crate::broken::is("two-alerts") {
            let dedup_key = format!("{}again", alert.dedup_key);
            let (id, activity) = (self.batch.clock.new_id(), self.batch.clock.new_id());
            self.changes
                .raise(crate::model::alert::Alert { id, dedup_key, ..alert.clone() }, activity);
        }
        self.changes.raise(alert, self.batch.clock.new_id());
        session.end(End { reason: end_reason, at: self.now, by: None, note: None });
        self.record(ActivityKind::Terminated, SYSTEM, session);
        Err(Error::Unauthenticated { reason, ended: Some(end_reason) })
    }

    fn rotate(&self, session: &mut Session) {
        let chain = &mut session.chain;
        // Presenting a generation proves that its answer arrived.
        chain.confirmed = chain.generation;
        chain.generation += 1;
        chain.key_id = self.mac;
        chain.rotated_at = self.now;
        session.last_active_at = session.last_active_at.max(self.now);
    }

    /// Notes what is said of the client. The device is written only if that is news: a plain
    /// refresh costs no more for it.
    fn meet(&mut self, session: &mut Session, client: Option<&ClientContext>) {
        let look_up = |ip| self.batch.locator.locate(ip);
        if client.is_some_and(|client| session.locate(client, look_up)) {
            self.changes.devices.push(UserDevice::of_session(session));
        }
    }

    fn record(&mut self, kind: ActivityKind, principal: &str, session: &Session) {
        #[cfg(feature = "broken")]
        if crate::broken::is("no-activity") && kind == ActivityKind::Refreshed {
            return;
        }
        let id = self.batch.clock.new_id();
        self.changes.activities.push(Activity::of_session(id, self.now, kind, principal, session));
    }
}

/// A re-authentication made tokens in its place; the session is as it was.
fn superseded() -> Error {
    Error::Unauthenticated { reason: Reason::RefreshTokenSuperseded, ended: None }
}

fn ended(reason: EndReason) -> Error {
    Error::Unauthenticated { reason: Reason::of_end(reason), ended: Some(reason) }
}
