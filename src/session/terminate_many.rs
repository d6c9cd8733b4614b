//! TerminateSessions: ends all sessions that match a filter, in batches.
//!
//! From the newest session on: ids sort by creation, so what is created meanwhile lies behind, and a
//! call ends however many creates come. Every session that was committed before lies ahead.

pub(super) mod budget;
mod progress;

use std::time::Duration;

use prometheus::IntCounter;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::{Error, Outage, Reason, Result};
use crate::model::ids::{SessionKey, TenantId};
use crate::model::request::{Progress, RequestId};
use crate::model::session::{EndReason, Session, SessionFilter, State, StateFilter};
use crate::model::watermark::Watermark;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{requests, sessions, watermark};
use budget::Budget;

/// Sessions per transaction: short locks, and little lost if one fails.
const BATCH: usize = 500;
/// Keys per statement where they are only counted.
const COUNTED: usize = 10_000;
/// The most sessions an answer shows.
const SAMPLE: usize = 10;

/// Terminates sessions by filter.
pub struct TerminateMany {
    db: Database,
    clock: Clock,
    touches: Touches,
    passed_over: IntCounter,
}

/// What a caller asks for.
pub struct MassTermination {
    pub tenant: TenantId,
    /// Its state does not matter: only active sessions end.
    pub filter: SessionFilter,
    pub except: Option<Uuid>,
    /// One of the service's own only where it asks itself.
    pub reason: EndReason,
    /// At most 512 characters.
    pub note: Option<String>,
    pub dry_run: bool,
    /// More matching sessions than that are not ended.
    pub expected_max: Option<u32>,
    /// Never of a dry run.
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// What was ended, by all calls of a request together, or in a dry run would be.
#[derive(Default)]
pub struct Terminated {
    pub count: u64,
    /// The newest of them.
    pub sample: Vec<Session>,
    /// Nothing is left of what matched at the beginning.
    pub complete: bool,
    /// What includes these ends.
    pub watermark: Watermark,
}

/// A batch, or a page of keys: what became of it, and where the next one begins.
struct Step {
    ended: Vec<Session>,
    next: Option<Uuid>,
    /// Of the request, after the batch.
    progress: Option<Progress>,
    watermark: Option<Watermark>,
}

impl TerminateMany {
    /// Terminates sessions of `db`. Those whose rows make no sense are left, and counted in `passed_over`.
    pub fn new(
        db: Database,
        clock: Clock,
        touches: Touches,
        passed_over: IntCounter,
    ) -> TerminateMany {
        TerminateMany { db, clock, touches, passed_over }
    }

    /// Ends what matches, for as long as `time` lasts, or goes on with what the same request
    /// began. What is counted is final.
    ///
    /// # Errors
    /// [`Error::Precondition`] if more match than expected, [`Error::RequestIdReused`], and
    /// [`Error::Unavailable`]: batches before the one that failed stay done.
    pub async fn terminate(&self, wish: &MassTermination, time: Duration) -> Result<Terminated> {
        let mut done = self.run(wish, time).await?;
        if done.watermark == Watermark::default() {
            // What has ended was so before.
            done.watermark = watermark::now(&self.db).await?;
        }
        Ok(done)
    }

    async fn run(&self, wish: &MassTermination, time: Duration) -> Result<Terminated> {
        let mut budget = Budget::new(time);
        #[cfg(feature = "broken")]
        if crate::broken::is("ends-nothing") {
            return Ok(Terminated { complete: true, ..Terminated::default() });
        }
        if wish.dry_run || (wish.expected_max.is_some() && !self.has_begun(wish).await?) {
            let counted = self.count(wish, &mut budget).await?;
            if wish.dry_run {
                return Ok(Terminated { sample: self.sample(wish).await?, ..counted });
            }
            if !counted.complete {
                return Ok(Terminated::default());
            }
        }
        let mut done = Terminated::default();
        let (mut after, mut progress) = (None, None);
        while budget.allows() {
            let step = match self.batch(wish, after).await {
                // Rolled back as a whole: once more is safe.
                Err(Error::Unavailable(Outage::Raced(_) | Outage::Locked(_))) => {
                    self.batch(wish, after).await?
                }
                other => other?,
            };
            done.watermark = done.watermark.max(step.watermark.unwrap_or_default());
            done.count += step.ended.len() as u64;
            let room = SAMPLE - done.sample.len();
            done.sample.extend(step.ended.into_iter().take(room));
            (after, progress) = (step.next, step.progress);
            if after.is_none() {
                done.complete = true;
                break;
            }
        }
        match progress {
            Some(progress) => self.answer(progress).await,
            None => Ok(done),
        }
    }

    /// True if the request is known: its first call passed the guard.
    async fn has_begun(&self, wish: &MassTermination) -> Result<bool> {
        let Some(request) = wish.request else { return Ok(false) };
        let known = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            requests::find(&mut conn, &[(&wish.tenant, request.id)]).await
        });
        let now = self.clock.now();
        Ok(known.await?.iter().any(|known| known.holds_at(now)))
    }

    /// The answer of a request that got this far.
    async fn answer(&self, progress: Progress) -> Result<Terminated> {
        let Progress { request, count, complete } = progress;
        let sample = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            sessions::find_sound_by_id(&mut conn, &request.tenant, &request.related).await
        });
        Ok(Terminated { count, sample: sample.await?, complete, ..Terminated::default() })
    }

    /// Counts what matches; an error if it is more than expected.
    async fn count(&self, wish: &MassTermination, budget: &mut Budget) -> Result<Terminated> {
        let now = self.clock.now();
        let filter = wish.selecting(StateFilter::Active);
        let most = wish.expected_max.map_or(u64::MAX, u64::from);
        let mut counted = Terminated::default();
        let mut after = None;
        while budget.allows() {
            let page = self.db.within(async {
                let mut conn = self.db.acquire().await?;
                sessions::matching(&mut conn, &wish.tenant, &filter, after, COUNTED, now).await
            });
            let keys = page.await?;
            after = keys.last().filter(|_| keys.len() == COUNTED).map(|key| key.session);
            counted.count += keys.iter().filter(|key| wish.names(key)).count() as u64;
            if counted.count > most {
                return Err(exceeded(counted.count));
            }
            if after.is_none() {
                counted.complete = true;
                break;
            }
        }
        Ok(counted)
    }

    async fn sample(&self, wish: &MassTermination) -> Result<Vec<Session>> {
        let now = self.clock.now();
        let filter = wish.selecting(StateFilter::Active);
        let reading = self.db.within(async {
            let mut conn = self.db.acquire().await?;
            let (of, most) = (&wish.tenant, SAMPLE + 1);
            let keys = sessions::matching(&mut conn, of, &filter, None, most, now).await?;
            let named = keys.iter().filter(|key| wish.names(key)).take(SAMPLE);
            let ids: Vec<Uuid> = named.map(|key| key.session).collect();
            sessions::find_sound_by_id(&mut conn, of, &ids).await
        });
        let mut sample = reading.await?;
        for session in &mut sample {
            self.touches.overlay(session);
        }
        Ok(sample)
    }

    async fn batch(&self, wish: &MassTermination, after: Option<Uuid>) -> Result<Step> {
        self.db.within(self.attempt(wish, after)).await
    }

    async fn attempt(&self, wish: &MassTermination, after: Option<Uuid>) -> Result<Step> {
        let done = self.db.transaction(async |tx| self.step(tx, wish, after).await).await?;
        Ok(Step { watermark: done.watermark, ..done.answer })
    }

    async fn step(
        &self,
        tx: &mut Transaction,
        wish: &MassTermination,
        after: Option<Uuid>,
    ) -> Result<Step> {
        let now = self.clock.now();
        let begun = progress::begun(tx, wish, now).await?;
        let after = match &begun {
            Some(begun) if begun.complete => {
                let progress = Some(begun.clone());
                return Ok(Step { ended: Vec::new(), next: None, progress, watermark: None });
            }
            Some(begun) => begun.request.subject,
            None => after,
        };
        // Past a deadline or not: another replica may know of activity that is not written yet.
        let filter = wish.selecting(StateFilter::Unended);
        let keys = sessions::matching(tx, &wish.tenant, &filter, after, BATCH, now).await?;
        let next = keys.last().filter(|_| keys.len() == BATCH).map(|key| key.session);
        let named: Vec<&SessionKey> = keys.iter().filter(|key| wish.names(key)).collect();
        // What makes no sense must not save the others.
        let (locked, damaged) = sessions::lock_sound(tx, &named).await?;
        self.passed_over.inc_by(damaged.len() as u64);
        let mut changes = Changes::new(&self.clock);
        if after.is_none() && wish.is_of_whole_tenant() {
            changes.withdraw_tenant(&wish.tenant, changes.at());
        }
        let mut ended = Vec::new();
        for mut session in locked {
            self.touches.overlay(&mut session);
            // It may have changed, or ended, before it was locked.
            let selected = session.state == State::Active && filter.still_selects(&session);
            let by = Some(wish.principal.as_str());
            if selected && changes.end_session(&mut session, wish.reason, by, wish.note.clone()) {
                ended.push(session);
            }
        }
        ended.sort_unstable_by_key(|session| std::cmp::Reverse(session.key.session));
        let progress = wish
            .request
            .map(|request| progress::advance(begun, wish, request, &ended, next, &mut changes));
        changes.write(tx).await?;
        Ok(Step { ended, next, progress, watermark: None })
    }
}

impl MassTermination {
    fn selecting(&self, state: StateFilter) -> SessionFilter {
        SessionFilter { state: Some(state), ..self.filter.clone() }
    }

    fn is_of_whole_tenant(&self) -> bool {
        self.except.is_none() && self.filter == SessionFilter::default()
    }

    fn names(&self, key: &SessionKey) -> bool {
        self.except != Some(key.session)
    }
}

fn exceeded(matching: u64) -> Error {
    Error::Precondition {
        reason: Reason::ExpectedMaxExceeded,
        message: "more sessions match than expected_max; none was ended".to_owned(),
        metadata: vec![("matching", matching.to_string())],
    }
}
