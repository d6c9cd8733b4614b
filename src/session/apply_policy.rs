//! Applies a stricter policy to running sessions: in batches, newest session first, as
//! TerminateSessions does. The policy is applied again a little later, because a concurrent create
//! may still use the old one.

mod find;
mod stack;

use std::time::Duration;

use prometheus::IntCounter;
use uuid::Uuid;

use crate::cache::policies::Policies;
use crate::clock::Clock;
use crate::error::{Error, Outage, Result};
use crate::model::ids::SessionKey;
use crate::model::policy::Policy;
use crate::model::policy::overrides::{PolicyLevel, PolicyScope};
use crate::model::session::{EndReason, Session, State};
use crate::session::batch_size::{BatchSize, is_about_rows};
use crate::session::shorten::shortened;
use crate::session::terminate_many::MassTerminationResult;
use crate::session::terminate_many::budget::Budget;
use crate::session::touch::Touches;
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::sessions::LockedSessions;
use crate::store::{policies, sessions};

/// Sessions per transaction. Locks are short, and a failure loses little.
const BATCH: u32 = 500;
/// Sessions per statement of a count.
const COUNTED: usize = 2_000;
/// The most sessions in an answer.
const SAMPLE: usize = 10;
/// Delay after a change until the policy is applied again. By then no create that uses the old
/// policy is in progress. A policy is used for 0.5 s. A create begins its transaction within 1.9 s;
/// the transaction takes 1.5 s and runs at most twice ([`crate::store::timeouts`], defaults). The
/// clocks of replicas may differ a little.
pub const REPEAT_AFTER: chrono::Duration = chrono::Duration::seconds(8);
/// The time limit of one turn of the job.
const TURN: Duration = Duration::from_secs(20);
/// How long a turn reserves a level against other replicas. If the turn fails, another replica continues after it.
const LEASE: chrono::Duration = chrono::Duration::seconds(30);

/// Applies policies to running sessions. Cheap to clone.
#[derive(Clone)]
pub struct ApplyPolicy {
    db: Database,
    clock: Clock,
    touches: Touches,
    policies: Policies,
    skipped_rows: IntCounter,
}

/// The result of a batch.
struct PolicyBatch {
    /// Newest first.
    ended: Vec<Session>,
    /// Where the next batch begins.
    next: Option<Uuid>,
    /// The number of sessions that other transactions have locked.
    locked: u64,
    /// The number of damaged rows.
    damaged: u64,
}

impl ApplyPolicy {
    /// Applies `policies` to the sessions of `db`. Sessions that cannot be shortened are counted in `skipped_rows`.
    pub fn new(
        db: Database,
        clock: Clock,
        touches: Touches,
        policies: Policies,
        skipped_rows: IntCounter,
    ) -> ApplyPolicy {
        ApplyPolicy { db, clock, touches, policies, skipped_rows }
    }

    /// Runs one turn of the pending work; true if any was due. Stops between batches once `stopped`
    /// returns true. Nothing is due while time is in doubt, because an end cannot be undone.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: a replica retries after the lease.
    pub async fn turn(&self, stopped: impl Fn() -> bool) -> Result<bool> {
        let Some(now) = self.clock.settled() else { return Ok(false) };
        let claiming =
            async { policies::claim(&mut *self.db.acquire().await?, now, now + LEASE).await };
        let Some(level) = self.db.within(claiming).await? else { return Ok(false) };
        let by = level.updated.as_ref().map_or_else(String::new, |(_, by)| by.clone());
        let mut done = MassTerminationResult::default();
        let mut time = Budget::new(TURN);
        let go_on = || !stopped() && time.allows();
        self.apply(&level.scope, &by, go_on, &mut done).await?;
        if done.count > 0 {
            tracing::info!(scope = ?level.scope, ended = done.count, "held sessions to their policy");
        }
        let next = (!done.complete && !done.held_up).then_some(now);
        let settling =
            async { policies::settle(&mut *self.db.acquire().await?, &level, next).await };
        self.db.within(settling).await?;
        Ok(true)
    }

    /// Applies to each session at `scope` the policy that is in force for it, and adds the ended
    /// ones to `done`. Calls `go_on` before each batch. A session that fails alone is skipped.
    /// `done.held_up` means that only sessions are left which can never be written. Stops while
    /// time is in doubt.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: what is committed stays, also for sessions after one that stays locked.
    pub(super) async fn apply(
        &self,
        scope: &PolicyScope,
        by: &str,
        mut go_on: impl FnMut() -> bool,
        done: &mut MassTerminationResult,
    ) -> Result<()> {
        let (size, mut after, mut skips) = (BatchSize::new(BATCH), None, false);
        let (mut stuck, mut never) = (None, false);
        while go_on() && self.clock.is_settled() {
            let (limit, mut tried) = (size.now(), None);
            match self.db.within(self.batch(scope, by, after, limit, skips, &mut tried)).await {
                Ok(PolicyBatch { ended, next, locked, damaged }) => {
                    size.grow(limit);
                    skips = false;
                    if locked > 0 {
                        tracing::warn!(
                            locked,
                            "sessions are locked, and held to their policy later"
                        );
                        self.skipped_rows.inc_by(locked);
                        let said = format!("{locked} sessions");
                        stuck = stuck.or(Some(Error::Unavailable(Outage::Locked(said))));
                    }
                    never |= damaged > 0;
                    add(done, ended);
                    after = next;
                    if after.is_none() {
                        done.complete = stuck.is_none() && !never;
                        done.held_up = stuck.is_none() && never;
                        break;
                    }
                }
                // The rows may stay locked for long, and a smaller batch would wait as long.
                Err(Error::Unavailable(Outage::Locked(_))) if !skips => skips = true,
                // The batch is rolled back, so a retry is safe.
                Err(error) if size.shrink(tried.map_or(limit, |(_, many)| many), &error) => {}
                Err(error) => match tried.filter(|_| is_about_rows(&error)) {
                    Some((id, _)) => {
                        tracing::error!(%error, session = %id, "a session cannot be held to its policy");
                        self.skipped_rows.inc();
                        after = Some(id);
                        // A locked session may succeed at a later turn; one that cannot be written never does.
                        match error {
                            Error::Unavailable(_) => stuck = stuck.or(Some(error)),
                            _ => never = true,
                        }
                    }
                    None => return Err(error),
                },
            }
        }
        stuck.map_or(Ok(()), Err)
    }

    /// Counts the sessions that would end now if `proposed` were stored.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(super) async fn count(
        &self,
        proposed: &PolicyLevel,
        time: &mut Budget,
    ) -> Result<MassTerminationResult> {
        let now = self.clock.now();
        let mut counted = MassTerminationResult::default();
        let mut after = None;
        while time.allows() {
            let reading = async {
                let mut conn = self.db.acquire().await?;
                self.find(&mut conn, &proposed.scope, Some(proposed), after, COUNTED).await
            };
            let found = self.db.within(reading).await?;
            let mut over = Vec::new();
            for (mut session, policy) in found.sessions {
                self.touches.overlay(&mut session);
                let held = shortened(&session, &policy, now);
                let ends = held.is_some_and(|held| held.state_at(now) != State::Active);
                if ends && session.state_at(now) == State::Active {
                    over.push(session);
                }
            }
            add(&mut counted, over);
            after = found.next;
            if after.is_none() {
                counted.complete = true;
                break;
            }
        }
        Ok(counted)
    }

    /// Applies the policy to the next batch. If `skips` is set, locked rows are skipped. `tried`
    /// receives the first session of the batch and the number of sessions in it.
    async fn batch(
        &self,
        scope: &PolicyScope,
        by: &str,
        after: Option<Uuid>,
        limit: u32,
        skips: bool,
        tried: &mut Option<(Uuid, u32)>,
    ) -> Result<PolicyBatch> {
        let holding = self.db.transaction(async |tx| {
            let found = self.find(tx, scope, None, after, limit as usize).await?;
            let first = found.sessions.first().map(|(session, _)| session.key.session);
            *tried = first.map(|id| (id, found.sessions.len() as u32));
            let keys: Vec<&SessionKey> =
                found.sessions.iter().map(|(session, _)| &session.key).collect();
            let locked = match skips {
                true => sessions::lock_free(tx, &keys).await?,
                false => {
                    let (sessions, damaged) = sessions::lock_sound(tx, &keys).await?;
                    LockedSessions { sessions, damaged, ..LockedSessions::default() }
                }
            };
            let damaged = (found.damaged + locked.damaged.len()) as u64;
            self.skipped_rows.inc_by(damaged);
            let doubt = || Error::Unavailable(Outage::Raced("time is in doubt".to_owned()));
            let mut changes = Changes::settled(&self.clock).ok_or_else(doubt)?;
            let mut ended = Vec::new();
            for session in locked.sessions {
                let of = found.sessions.iter().find(|(found, _)| found.key == session.key);
                let (_, policy) = of.expect("what was locked was found");
                ended.extend(self.hold(session, policy, by, &mut changes));
            }
            changes.write(tx).await?;
            Ok(PolicyBatch { ended, next: found.next, locked: locked.held.len() as u64, damaged })
        });
        let mut done = holding.await?.answer;
        done.ended.sort_unstable_by_key(|session| std::cmp::Reverse(session.key.session));
        Ok(done)
    }

    /// Applies `policy` to a locked session. Returns the session if it was active and this ended it.
    fn hold(
        &self,
        mut session: Session,
        policy: &Policy,
        by: &str,
        changes: &mut Changes,
    ) -> Option<Session> {
        self.touches.overlay(&mut session);
        if session.state != State::Active {
            return None;
        }
        let now = changes.at();
        let was_active = session.state_at(now) == State::Active;
        let held = shortened(&session, policy, now)?;
        if held.absolute_expires_at <= now {
            let ended = changes.end_session(&mut session, EndReason::Policy, Some(by), None);
            return ended.then_some(session);
        }
        // An idle timeout is not written yet: another replica may hold unwritten activity.
        changes.shorten_session(&held);
        Some(held.seen_at(now)).filter(|held| was_active && held.state != State::Active)
    }
}

fn add(sum: &mut MassTerminationResult, ended: Vec<Session>) {
    sum.count += ended.len() as u64;
    let room = SAMPLE - sum.sample.len();
    sum.sample.extend(ended.into_iter().take(room));
}
