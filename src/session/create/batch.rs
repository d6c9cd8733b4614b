//! One transaction of creates: lock the users, read their sessions, decide, write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::cache::sessions::SessionReader;
use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::conflict::{LimitBreach, LimitScope};
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::policy::ranges::MAX_SESSIONS;
use crate::model::request::RecordedRequest;
use crate::model::revocation::Revocation;
use crate::model::session::{Session, State};
use crate::model::watermark::Watermark;
use crate::session::create::plan::{CreateOutcome, Limited, Live, Plan};
use crate::session::create::{NewSession, birth};
use crate::session::lanes::LaneWork;
use crate::session::limits;
use crate::session::location::Locator;
use crate::session::observations::Observations;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{feed, requests, sessions, users};
use crate::token::conflict::ConflictTokens;
use crate::token::issuer::{Issuer, Ready};

/// A committed session, with the sessions that were ended for it.
#[derive(Clone)]
pub struct CreatedSession {
    pub session: Session,
    pub terminated: Vec<Session>,
    /// A watermark that includes these ends, once they are committed; `None` if there are none.
    pub watermark: Option<Watermark>,
}

/// Everything a transaction of creates needs.
pub struct CreateBatch {
    pub db: Database,
    pub clock: Clock,
    pub issuer: Issuer,
    pub touches: Touches,
    pub observations: Observations,
    pub locator: Locator,
    pub reader: SessionReader,
}

/// The most live sessions of a user that a create reads and can end: the largest limit, and 2,000
/// more. Beyond that a batch would exceed its time limit and delay others without effect.
const MAX_LIVE: u32 = MAX_SESSIONS + 2_000;

/// The combined demands of the creates of one user.
#[derive(Default)]
struct Demand {
    creates: u32,
    /// The lowest limit among them.
    limit: Option<u32>,
    /// True if one of them names the sessions to end.
    chooses: bool,
}

impl Demand {
    fn add(&mut self, session: &Session, new: &NewSession) {
        self.creates += 1;
        let limit = limits::lowest(&new.policy.limits, session);
        self.limit = [self.limit, limit].into_iter().flatten().min();
        self.chooses |= !new.victims.is_empty();
    }

    /// Whether the number of live sessions is not enough to decide. Each limit counts a subset of
    /// them, so no limit is exceeded while all of them together stay within the lowest.
    fn has_to_read(&self, live: i64) -> bool {
        let exceeds = |limit| i64::from(self.creates) + live > i64::from(limit);
        self.chooses || self.limit.is_some_and(exceeds)
    }

    /// The refusal of creates of a user who has more than [`MAX_LIVE`] sessions.
    fn breach(&self) -> LimitBreach {
        let max = self.limit.unwrap_or(MAX_LIVE);
        LimitBreach { scope: LimitScope::User, max, active: MAX_LIVE as usize + 1 }
    }
}

impl LaneWork for CreateBatch {
    type Job = NewSession;
    /// An answer, with the keys that the transaction began with.
    type Answer = (CreatedSession, Ready);

    fn user(job: &NewSession) -> (&TenantId, &UserId) {
        (&job.tenant, &job.user)
    }

    async fn run(&self, jobs: &[NewSession]) -> Result<Vec<Result<Self::Answer>>> {
        let stamp = self.reader.stamp();
        let keys = self.issuer.ready().await?;
        let done = self.db.transaction(async |tx| self.admit(tx, jobs, &keys).await).await?;
        let Batched { answers, created, limited, written } = done.answer;
        for session in &created {
            self.reader.insert(stamp, session, written);
        }
        let now = self.clock.now();
        for (session, other, code) in &limited {
            self.observations.limited(session, other, code, now);
        }
        let admitted = |answer: Result<CreatedSession>| {
            let answer = answer?;
            let watermark = answer.watermark.or(done.watermark);
            let watermark = watermark.filter(|_| !answer.terminated.is_empty());
            Ok((CreatedSession { watermark, ..answer }, keys.clone()))
        };
        Ok(answers.into_iter().map(admitted).collect())
    }
}

/// The decisions of a transaction of creates.
struct Batched {
    /// In the order of the jobs.
    answers: Vec<Result<CreatedSession>>,
    /// The new sessions that are active at the end of the transaction.
    created: Vec<Session>,
    limited: Vec<Limited>,
    /// A moment at which the transaction still held its locks.
    written: Instant,
}

impl CreateBatch {
    async fn admit(
        &self,
        tx: &mut Transaction,
        jobs: &[NewSession],
        keys: &Ready,
    ) -> Result<Batched> {
        // In the order of the keys.
        let users: BTreeSet<(&TenantId, &UserId)> = jobs.iter().map(CreateBatch::user).collect();
        let users: Vec<(&TenantId, &UserId)> = users.into_iter().collect();
        users::lock(tx, &users, self.clock.now()).await?;
        // From here on no other transaction creates sessions of these users, and earlier ones have committed.
        let mut changes = Changes::new(&self.clock);
        let now = changes.at();
        let conflicts = keys.conflicts(now)?;
        let known = known_requests(tx, jobs, &conflicts).await?;
        let mut born = Vec::with_capacity(jobs.len());
        let mut users: BTreeMap<(&TenantId, &UserId), Demand> = BTreeMap::new();
        for job in jobs {
            let session = birth::session(job, now, &self.clock, keys, &self.locator)?;
            users.entry(CreateBatch::user(job)).or_default().add(&session, job);
            born.push(session);
        }
        let live = self.live(tx, &users, &mut changes).await?;
        let mut plan = Plan::new(&conflicts, changes, live, known);
        for (session, job) in born.into_iter().zip(jobs) {
            plan.admit(session, job);
        }
        let mut answers = Vec::with_capacity(jobs.len());
        for outcome in plan.outcomes {
            answers.push(match outcome {
                CreateOutcome::Created(admitted) => Ok(*admitted),
                CreateOutcome::Repeated(request) => self.repeat(tx, request, now).await?,
                CreateOutcome::Refused(refusal) => Err(refusal.into()),
            });
        }
        plan.changes.write(tx).await?;
        let created = plan.changes.created_sessions().cloned().collect();
        Ok(Batched { answers, created, limited: plan.limited, written: Instant::now() })
    }

    /// The sessions, locked, of the users who may reach a limit by these creates. Other users are
    /// not read: a bounded count from the index is enough. A limit counts active sessions. An
    /// expiry is written down here, so that no unwritten activity of another replica revives the
    /// session beside the new one. While time is in doubt an expired session counts, because it may
    /// be active again.
    async fn live(
        &self,
        tx: &mut Transaction,
        users: &BTreeMap<(&TenantId, &UserId), Demand>,
        changes: &mut Changes,
    ) -> Result<Live> {
        let mut live = Live::default();
        if users.values().all(|demand| demand.limit.is_none() && !demand.chooses) {
            return Ok(live);
        }
        let keys: Vec<(&TenantId, &UserId)> = users.keys().copied().collect();
        let counts = sessions::count_live(tx, &keys, MAX_LIVE + 1).await?;
        let mut full: Vec<(&TenantId, &UserId)> = Vec::new();
        for ((user, demand), count) in users.iter().zip(counts) {
            if count > i64::from(MAX_LIVE) {
                live.crowded.insert((user.0.clone(), user.1.clone()), demand.breach());
            } else if demand.has_to_read(count) {
                full.push(*user);
            }
        }
        if full.is_empty() {
            return Ok(live);
        }
        for mut session in sessions::lock_live(tx, &full).await? {
            self.touches.overlay(&mut session);
            if let State::Ended(expiry) = session.state_at(changes.at())
                && self.clock.is_settled()
            {
                changes.expire_session(&mut session, expiry);
                continue;
            }
            let user = (session.key.tenant.clone(), session.key.user.clone());
            live.sessions.entry(user).or_default().push(session);
        }
        Ok(live)
    }

    /// The first answer of a repeated request, rebuilt from the ids that it recorded; states are as of `now`.
    async fn repeat(
        &self,
        tx: &mut Transaction,
        request: RecordedRequest,
        now: Time,
    ) -> Result<Result<CreatedSession>> {
        let RecordedRequest { tenant, user: Some(user), subject: Some(id), related, .. } = request
        else {
            return Ok(Err(Error::RequestIdReused));
        };
        let key = |session| SessionKey { tenant: tenant.clone(), user: user.clone(), session };
        let Some(mut session) = sessions::find(tx, &key(id)).await? else {
            return Ok(Err(Error::RequestIdReused));
        };
        self.touches.overlay(&mut session);
        let terminated = match related.is_empty() {
            true => Vec::new(),
            false => sessions::find_all_by_id(tx, &tenant, &related).await?,
        };
        for ended in &terminated {
            tx.invalidate(Revocation::of_all_tokens(ended, now));
        }
        // An end that is read has committed.
        let watermark = match terminated.is_empty() {
            true => None,
            false => Some(feed::now(tx).await?.watermark_of_all()),
        };
        Ok(Ok(CreatedSession { session: session.seen_at(now), terminated, watermark }))
    }
}

/// The recorded results of the request ids and the conflict tokens of these creates.
async fn known_requests(
    tx: &mut Transaction,
    jobs: &[NewSession],
    conflicts: &ConflictTokens,
) -> Result<Vec<RecordedRequest>> {
    let requests = jobs.iter().filter_map(|job| Some((&job.tenant, job.request?.id)));
    let tokens = jobs.iter().filter_map(|job| {
        let token = conflicts.read(job.holder(), job.conflict_token.as_ref()?)?;
        Some((&job.tenant, token.request.id))
    });
    let ids: Vec<_> = requests.chain(tokens).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    requests::find(tx, &ids).await
}
