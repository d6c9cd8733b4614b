//! The bounded buffer of observations: requests write here, never to the database. A repeated observation is counted, not
//! repeated; one that does not fit is dropped and counted.

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
/// The most that one flush sets aside: if more fail, the database does.
const MAX_FAILED: usize = 8;

/// Longer than our own transactions have a session locked.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(100);

/// Observations that are not written yet. Cheap to clone; clones share them.
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

/// What counts as the same: it is entered once in a while, with how often it happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum ObservationKey {
    /// Entered once, whatever happens.
    Context(Uuid, UseContext),
    Expired(Uuid),
    Forged(TenantId, IpNet),
    Limit(TenantId, UserId),
}

/// From where, and with what, a session is used.
type UseContext = (Option<IpNet>, Option<String>);

/// Something to enter.
#[derive(Debug, Clone, PartialEq)]
struct Observation {
    key: ObservationKey,
    activity: Activity,
    /// The session that must still be there when it is written, so that nothing is written of a user who was erased;
    /// `None` = it is about no user.
    witness: Option<SessionKey>,
    count: u32,
}

impl Observations {
    /// An empty buffer in front of this database. What cannot be entered is counted in `skipped_rows`.
    pub fn new(
        db: Database,
        clock: Clock,
        locator: Locator,
        skipped_rows: IntCounter,
    ) -> Observations {
        let (size, aside) = (Arc::new(BatchSize::new(BATCH)), Arc::default());
        Observations { db, clock, locator, buffer: Arc::default(), size, aside, skipped_rows }
    }

    /// A good token of `session` was presented by `client`; an observation only if from another network or with
    /// another user agent. What either does not tell is not another.
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

    /// A token of `session` was refused because its time is over.
    pub fn expired(&self, session: &Session, client: &ClientContext, now: Time) {
        let (id, kind) = (self.clock.new_id(), ActivityKind::TokenRefused);
        self.note(ObservationKey::Expired(session.key.session), now, || {
            let activity = Activity::of_session(id, now, kind, SYSTEM, session);
            refused(self.from(activity, client), "TOKEN_EXPIRED")
        });
    }

    /// What looks like a token and is none of ours was presented. Nothing that it says is to be believed, so it is
    /// about no user, but about the tenant of the caller that presented it; without an address there is nothing to tell.
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

    /// `new` was refused by a limit, because of `other` among others.
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

    /// Writes what is due, or `all` that there is. What could not be written stays for the next time, or for ten
    /// minutes where it fails alone, and holds up no other.
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
            tracing::warn!(dropped, "there are more observations than the audit trail takes");
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
                // It may stay locked for long, and a smaller batch would wait as long.
                Err(Error::Unavailable(Outage::Locked(_))) if !skips => {
                    skips = true;
                    continue;
                }
                Err(error) if self.size.shrink(batch.len() as u32, &error) => continue,
                // It would be the same again, and hold up what comes behind.
                Err(error @ Error::Internal(_)) => {
                    tracing::error!(%error, "an observation is lost");
                    self.skipped_rows.inc();
                }
                Err(error) if is_about_rows(&error) && failed < MAX_FAILED => {
                    let kept =
                        first.witness.as_ref().is_some_and(|key| self.set_aside(key.session));
                    if !kept {
                        return Err(error);
                    }
                    tracing::warn!(%error, "an observation of a session cannot be written now");
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
                tracing::warn!(count, %first, "observations of locked sessions are written later");
                if !locked.iter().all(|session| self.set_aside(*session)) {
                    return Err(Error::Unavailable(Outage::Locked("too many sessions".to_owned())));
                }
            }
        }
        Ok(())
    }

    /// Tries again what is `locked` of the batch: it may have been by one of our own transactions. What still is.
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

    /// The activity as `client` states where it comes from, and not as the session knew it.
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
        // Nothing panics while holding it, and the buffer is whole between any two calls.
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

    /// The activity with how often it happened.
    fn activity(&self) -> Activity {
        let mut activity = self.activity.clone();
        if let Some(report) = &mut activity.report {
            // Read by `Activity::times`.
            report.metadata = BTreeMap::from([("count".to_owned(), self.count.to_string())]);
        }
        activity
    }
}
