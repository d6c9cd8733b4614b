//! The bounded buffer of observations. Requests write to it, never to the database. Repetitions are
//! counted instead of stored, and what does not fit is dropped and counted.

mod buffer;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use ipnet::IpNet;
use prometheus::IntCounter;
use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind, ActivityReport, SYSTEM};
use crate::model::device::ClientContext;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::session::Session;
use crate::model::token::InactiveReason;
use crate::session::batch_size::{Aside, BatchSize, is_about_rows};
use crate::session::location::Locator;
use crate::session::validate::Validation;
use crate::store::pool::Database;
use buffer::ObservationBuffer;

/// Rows per transaction of a flush.
const BATCH: u32 = 500;
/// The most rows that one flush sets aside: if more fail, the cause is the database.
const MAX_FAILED: usize = 8;

/// Longer than a transaction of this service holds the lock of a session.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);

/// The observations that are not written yet. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Observations {
    db: Database,
    clock: Clock,
    locator: Locator,
    buffer: Arc<Mutex<ObservationBuffer>>,
    size: Arc<BatchSize>,
    aside: Arc<Aside>,
    skipped_rows: IntCounter,
}

/// The key under which observations are the same: they are written at intervals, with a count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ObservationKey {
    /// Written once, whatever the count.
    Context(Uuid, UseContext),
    Expired(Uuid),
    Forged(TenantId, IpNet),
    Limit(TenantId, UserId),
}

/// The network and the user agent of a use.
type UseContext = (Option<IpNet>, Option<String>);

/// A pending observation.
#[derive(Debug, Clone, PartialEq)]
struct Observation {
    key: ObservationKey,
    activity: Activity,
    /// The session that must still exist at the write, so that nothing is written about an erased
    /// user; `None` = the observation concerns no user.
    witness: Option<SessionKey>,
    count: u32,
}

impl Observations {
    /// An empty buffer for this database. Observations that cannot be written are counted in `skipped_rows`.
    pub fn new(
        db: Database,
        clock: Clock,
        locator: Locator,
        skipped_rows: IntCounter,
    ) -> Observations {
        let (size, aside) = (Arc::new(BatchSize::new(BATCH)), Arc::default());
        Observations { db, clock, locator, buffer: Arc::default(), size, aside, skipped_rows }
    }

    /// `client` presented a valid token of `session`. It is an observation only from another
    /// network or with another user agent; an unknown one does not count as another.
    pub fn seen(&self, session: &Session, client: &ClientContext, now: Time) {
        let moved = |ip: IpAddr| session.ip.is_some_and(|then| network(then) != network(ip));
        let other = |agent: &String| session.user_agent.as_ref().is_some_and(|then| then != agent);
        if !client.ip.is_some_and(moved) && !client.user_agent.as_ref().is_some_and(other) {
            return;
        }
        let ip = client.ip.or(session.ip);
        let agent = client.user_agent.clone().or(session.user_agent.clone());
        let key = ObservationKey::Context(session.key.session, (ip.map(network), agent));
        let kind = ActivityKind::ContextChanged;
        self.note(key, now, || {
            let mut there = session.clone();
            there.locate(client, |ip| self.locator.locate(ip));
            Activity::of_session(self.clock.new_id(), now, kind, SYSTEM, &there)
        });
    }

    /// A token of `session` was refused because it had expired.
    pub fn expired(&self, session: &Session, client: &ClientContext, now: Time) {
        let (id, kind) = (self.clock.new_id(), ActivityKind::TokenRefused);
        self.note(ObservationKey::Expired(session.key.session), now, || {
            let activity = Activity::of_session(id, now, kind, SYSTEM, session);
            refused(self.from(activity, client), "TOKEN_EXPIRED")
        });
    }

    /// A forged token was presented. Its content is not trusted, so the observation concerns no
    /// user, but the tenant of the caller that presented it. Without an address none is made.
    pub fn forged(&self, reason: InactiveReason, presented: &Validation, now: Time) {
        let Validation { token, client, caller, .. } = presented;
        let code = match reason {
            InactiveReason::SignatureInvalid => "SIGNATURE_INVALID",
            InactiveReason::Malformed if token.matches('.').count() == 2 => "MALFORMED",
            _ => return,
        };
        let (Some(ip), Ok(tenant)) = (client.ip, TenantId::parse(caller.any_tenant())) else {
            return;
        };
        let (id, kind) = (self.clock.new_id(), ActivityKind::TokenRefused);
        self.note(ObservationKey::Forged(tenant.clone(), network(ip)), now, || {
            let activity = Activity::new(id, now, kind, SYSTEM, &tenant, None);
            refused(self.from(activity, client), code)
        });
    }

    /// A limit that counted `other` refused `new`.
    pub(in crate::session) fn limited(
        &self,
        new: &Session,
        other: &SessionKey,
        code: &str,
        now: Time,
    ) {
        let (id, kind) = (self.clock.new_id(), ActivityKind::LimitConflict);
        let key = ObservationKey::Limit(new.key.tenant.clone(), new.key.user.clone());
        let make = || {
            let activity = Activity::of_session(id, now, kind, SYSTEM, new);
            refused(Activity { session: None, generation: None, ..activity }, code)
        };
        self.lock().note(key, now, || (make(), Some(other.clone())));
    }

    /// Writes the observations that are due, or `all`. Those that could not be written are retried
    /// at the next flush, or after ten minutes if they fail alone, and delay no other.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn flush(&self, all: bool) -> Result<()> {
        let (dropped, mut left) = {
            let mut buffer = self.lock();
            buffer.collect(self.clock.now(), all);
            (buffer.take_dropped(), buffer.ready.len())
        };
        if dropped > 0 {
            tracing::warn!(dropped, "observations are dropped: the buffer is full");
        }
        let (mut failed, mut skips) = (0, false);
        while left > 0 {
            let (size, aside) = (self.size.now(), self.aside.at(self.clock.now()));
            let batch = self.lock().next(&aside.into_iter().collect(), left.min(size as usize));
            let Some(first) = batch.first() else { return Ok(()) };
            let mut locked = HashSet::new();
            match self.db.within(write::write(&self.db, &batch, skips)).await {
                Ok((lost, skipped)) => {
                    self.size.grow(size);
                    self.skipped_rows.inc_by(lost);
                    (locked, skips) = (self.once_more(&batch, skipped).await, false);
                }
                // The row may stay locked for long, and a smaller batch would wait as long.
                Err(Error::Unavailable(Outage::Locked(_))) if !skips => {
                    skips = true;
                    continue;
                }
                Err(error) if self.size.shrink(batch.len() as u32, &error) => continue,
                // A retry would fail the same way, and block the rows after it.
                Err(error @ Error::Internal(_)) => {
                    tracing::error!(%error, "an observation cannot be written, and is lost");
                    self.skipped_rows.inc();
                }
                Err(error) if is_about_rows(&error) && failed < MAX_FAILED => {
                    let kept =
                        first.witness.as_ref().is_some_and(|key| self.set_aside(key.session));
                    if !kept {
                        return Err(error);
                    }
                    tracing::warn!(%error, "observations of a session are set aside");
                    (failed, left) = (failed + 1, left - 1);
                    continue;
                }
                Err(error) => return Err(error),
            }
            left -= batch.len();
            let done = batch.iter().filter(|observation| !observation.is_about(&locked));
            let done: HashSet<Uuid> = done.map(|observation| observation.activity.id).collect();
            self.lock().ready.retain(|observation| !done.contains(&observation.activity.id));
            if let Some(first) = locked.iter().next() {
                let count = locked.len();
                tracing::warn!(count, %first, "observations of locked sessions are set aside");
                if !locked.iter().all(|session| self.set_aside(*session)) {
                    return Err(Error::Unavailable(Outage::Locked("too many sessions".to_owned())));
                }
            }
        }
        Ok(())
    }

    /// Retries the `locked` part of the batch, which a transaction of this service may have locked.
    /// Returns what is still locked.
    async fn once_more(&self, batch: &[Observation], locked: HashSet<Uuid>) -> HashSet<Uuid> {
        if locked.is_empty() {
            return locked;
        }
        tokio::time::sleep(MOMENT).await;
        let batch = batch.iter().filter(|observation| observation.is_about(&locked));
        let batch: Vec<Observation> = batch.cloned().collect();
        match self.db.within(write::write(&self.db, &batch, true)).await {
            Ok((lost, still)) => {
                self.skipped_rows.inc_by(lost);
                still
            }
            Err(_) => locked,
        }
    }

    fn set_aside(&self, session: Uuid) -> bool {
        self.skipped_rows.inc();
        self.aside.put(session, self.clock.now())
    }

    fn note(&self, key: ObservationKey, now: Time, make: impl FnOnce() -> Activity) {
        let about = |activity: Activity| {
            let (user, session) = (activity.user.clone(), activity.session);
            let tenant = activity.tenant.clone();
            let key = user.zip(session).map(|(user, session)| SessionKey { tenant, user, session });
            (activity, key)
        };
        self.lock().note(key, now, || about(make()));
    }

    /// The activity, with the origin that `client` states instead of the session's.
    fn from(&self, activity: Activity, client: &ClientContext) -> Activity {
        let found = || client.ip.and_then(|ip| self.locator.locate(ip));
        Activity {
            ip: client.ip,
            user_agent: client.user_agent.clone(),
            location: client.location.clone().or_else(found),
            ..activity
        }
    }

    fn lock(&self) -> MutexGuard<'_, ObservationBuffer> {
        // No code panics while it holds the lock, so the buffer is consistent.
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The site of an address: its IPv4 /24 or IPv6 /48, which is what a site gets (RFC 6177).
fn network(ip: IpAddr) -> IpNet {
    let length = if ip.is_ipv4() { 24 } else { 48 };
    IpNet::new(ip, length).expect("a length that fits the address").trunc()
}

fn refused(activity: Activity, code: &str) -> Activity {
    let report = ActivityReport { error_code: Some(code.to_owned()), ..ActivityReport::default() };
    Activity { report: Some(report), ..activity }
}

impl ObservationKey {
    fn context(&self) -> Option<(Uuid, UseContext)> {
        match self {
            ObservationKey::Context(session, context) => Some((*session, context.clone())),
            _ => None,
        }
    }

    fn is_context(&self) -> bool {
        matches!(self, ObservationKey::Context(..))
    }
}

impl Observation {
    fn is_about(&self, sessions: &HashSet<Uuid>) -> bool {
        self.witness.as_ref().is_some_and(|key| sessions.contains(&key.session))
    }

    /// The activity, with its count.
    fn activity(&self) -> Activity {
        let mut activity = self.activity.clone();
        if let Some(report) = &mut activity.report {
            // Read by `Activity::times`.
            report.metadata = BTreeMap::from([("count".to_owned(), self.count.to_string())]);
        }
        activity
    }
}
