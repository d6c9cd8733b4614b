//! One transaction of creates: lock the users, read what they have, decide, write.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::policy::{Policy, Timeouts};
use crate::model::request::Remembered;
use crate::model::session::{Session, State};
use crate::session::create::plan::{Outcome, Plan};
use crate::session::create::{NewSession, birth};
use crate::session::lanes::Work;
use crate::session::touch::Touches;
use crate::store::pool::{Database, Transaction};
use crate::store::{requests, sessions, users};
use crate::token::issuer::Issuer;

/// A create whose timeouts are settled.
pub(super) struct Job {
    pub new: NewSession,
    pub timeouts: Timeouts,
}

/// A session that is committed, with those that ended for it.
#[derive(Clone)]
pub(super) struct Admitted {
    pub session: Session,
    pub terminated: Vec<Session>,
}

/// Everything a transaction of creates needs.
pub(super) struct Batch {
    pub db: Database,
    pub clock: Clock,
    pub policy: Policy,
    pub issuer: Issuer,
    pub touches: Touches,
}

impl Work for Batch {
    type Job = Job;
    type Answer = Admitted;

    fn user(job: &Job) -> (&TenantId, &UserId) {
        (&job.new.tenant, &job.new.user)
    }

    async fn run(&self, jobs: &[Job]) -> Result<Vec<Result<Admitted>>> {
        let mut tx = self.db.begin().await?;
        let users: BTreeSet<(&TenantId, &UserId)> = jobs.iter().map(Self::user).collect();
        let users: Vec<(&TenantId, &UserId)> = users.into_iter().collect();
        users::lock(&mut tx, &users, self.clock.now()).await?;
        // From here on nobody else creates sessions of these users, and whoever did has committed.
        let now = self.clock.now();
        let known = self.known_requests(&mut tx, jobs).await?;
        let live = self.live(&mut tx, &users).await?;

        let mut plan = Plan::new(&self.policy, now, live, known);
        for job in jobs {
            let session = birth::session(job, now, &self.clock, &self.issuer)?;
            plan.admit(session, job.new.request);
        }
        let victims: Vec<&SessionKey> = plan.victims().collect();
        let locked = match victims.is_empty() {
            true => Vec::new(),
            false => sessions::lock(&mut tx, &victims).await?,
        };
        let repeated = repeated(&mut tx, plan.repeats()).await?;
        let settled = plan.settle(locked, |job| &jobs[job].new.principal, &self.clock);
        if !settled.changes.is_empty() {
            settled.changes.write(&mut tx).await?;
        }
        tx.commit().await?;

        let mut repeated = repeated.into_iter();
        Ok(settled
            .outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Admitted(admitted) => Ok(*admitted),
                Outcome::Repeated => repeated.next().unwrap_or(Err(Error::RequestIdReused)),
                Outcome::Refused(error) => Err(error),
            })
            .collect())
    }
}

impl Batch {
    async fn known_requests(&self, tx: &mut Transaction, jobs: &[Job]) -> Result<Vec<Remembered>> {
        let ids: Vec<_> = jobs
            .iter()
            .filter_map(|job| job.new.request.map(|request| (&job.new.tenant, request.id)))
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        requests::find(tx, &ids).await
    }

    /// What each user has; empty where there is no limit to count for.
    async fn live(
        &self,
        tx: &mut Transaction,
        users: &[(&TenantId, &UserId)],
    ) -> Result<HashMap<(TenantId, UserId), Vec<Session>>> {
        let mut live: HashMap<_, Vec<Session>> = HashMap::new();
        if self.policy.max_sessions_per_user > 0 {
            for mut session in sessions::live_of(tx, users).await? {
                self.touches.overlay(&mut session);
                let user = (session.key.tenant.clone(), session.key.user.clone());
                live.entry(user).or_default().push(session);
            }
        }
        Ok(live)
    }
}

/// The first answers of repeated requests, rebuilt from the ids they left.
async fn repeated(
    tx: &mut Transaction,
    requests: impl Iterator<Item = Remembered>,
) -> Result<Vec<Result<Admitted>>> {
    let mut answers = Vec::new();
    for request in requests {
        let (Some(user), Some(id)) = (request.user, request.subject) else {
            answers.push(Err(Error::RequestIdReused));
            continue;
        };
        let key =
            |session| SessionKey { tenant: request.tenant.clone(), user: user.clone(), session };
        let Some(session) = sessions::find(tx, &key(id)).await? else {
            answers.push(Err(Error::RequestIdReused));
            continue;
        };
        let mut terminated = Vec::new();
        for id in request.related {
            terminated.extend(sessions::find(tx, &key(id)).await?);
        }
        answers.push(Ok(Admitted { session, terminated }));
    }
    Ok(answers)
}

/// Sessions by key, in lock order.
pub(super) type ByKey = BTreeMap<SessionKey, Session>;

/// Those of `sessions` that are not ended.
pub(super) fn not_ended(sessions: Vec<Session>) -> ByKey {
    sessions
        .into_iter()
        .filter(|session| session.state == State::Active)
        .map(|session| (session.key.clone(), session))
        .collect()
}
