//! RecordActivities: what gateways and login services report enters the audit trail, in one transaction a call.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Result};
use crate::model::activity::{Activity, ActivityKind, Report};
use crate::model::device::ClientContext;
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::session::Session;
use crate::session::location::Locator;
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::{activities, requests};

/// Reports that are being stored at once.
const IN_FLIGHT: usize = 20_000;

/// Records activities.
pub struct RecordActivities {
    db: Database,
    clock: Clock,
    locator: Locator,
    room: Semaphore,
}

/// What a caller reports.
pub struct Reports {
    pub tenant: TenantId,
    /// 1 to 1000.
    pub entries: Vec<Reported>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// One report.
pub struct Reported {
    pub session: Option<Uuid>,
    /// That of the session, if both are there.
    pub user: Option<UserId>,
    pub kind: ActivityKind,
    pub context: ClientContext,
    /// `None` = now.
    pub at: Option<Time>,
    pub report: Report,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub accepted: usize,
    /// Ascending indexes of those that name a session that the tenant, or their user, does not have.
    pub rejected: Vec<usize>,
}

impl RecordActivities {
    /// Records in `db`.
    pub fn new(db: Database, clock: Clock, locator: Locator) -> RecordActivities {
        RecordActivities { db, clock, locator, room: Semaphore::new(IN_FLIGHT) }
    }

    /// Stores what can be stored; it is committed on return.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn record(&self, reports: &Reports) -> Result<Recorded> {
        let rows = u32::try_from(reports.entries.len()).unwrap_or(u32::MAX);
        let _room = self.room.try_acquire_many(rows).map_err(|_| Error::Overloaded)?;
        let twice = async {
            match self.attempt(reports).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(reports).await,
                other => other,
            }
        };
        self.db.within(twice).await
    }

    async fn attempt(&self, reports: &Reports) -> Result<Recorded> {
        let Reports { tenant, entries, .. } = reports;
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        if let Some(request) = reports.request
            && let Some(known) = requests::before(&mut tx, tenant, request, now).await?
        {
            tx.commit().await?;
            return repeated(known, request, entries.len());
        }
        // Users and sessions in the order in which an erasure takes them. It waits for both, so nothing is
        // left behind of a user who is erased. A user who has no row yet needs no lock: whatever commits
        // while an erasure finds nothing of them counts as reported after it.
        let alone = entries.iter().filter(|entry| entry.session.is_none());
        let users: BTreeSet<&UserId> = alone.filter_map(|entry| entry.user.as_ref()).collect();
        if !users.is_empty() {
            let users: Vec<&UserId> = users.into_iter().collect();
            activities::hold_users(&mut tx, tenant, &users).await?;
        }
        let named: BTreeSet<Uuid> = entries.iter().filter_map(|entry| entry.session).collect();
        let mut sessions: BTreeMap<Uuid, Session> = BTreeMap::new();
        if !named.is_empty() {
            let named: Vec<Uuid> = named.into_iter().collect();
            let held = activities::hold_sessions(&mut tx, tenant, &named).await?;
            sessions = held.into_iter().map(|session| (session.key.session, session)).collect();
        }
        let mut changes = Changes::default();
        let mut rejected = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let session = entry.session.and_then(|id| sessions.get(&id));
            let fits = |session: &Session| {
                entry.user.as_ref().is_none_or(|user| *user == session.key.user)
            };
            if entry.session.is_some() && !session.is_some_and(fits) {
                rejected.push(index);
            } else {
                changes.activities.push(self.activity(reports, entry, session, now));
            }
        }
        changes.remembered.extend(reports.request.map(|request| Remembered {
            tenant: tenant.clone(),
            request,
            user: None,
            subject: None,
            // No ids, but all that the answer says: which were rejected.
            related: rejected.iter().map(|index| Uuid::from_u128(*index as u128)).collect(),
            at: now,
        }));
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(Recorded { accepted: entries.len() - rejected.len(), rejected })
    }

    fn activity(
        &self,
        reports: &Reports,
        entry: &Reported,
        session: Option<&Session>,
        now: Time,
    ) -> Activity {
        let Reports { tenant, principal, .. } = reports;
        let user = session.map(|session| &session.key.user).or(entry.user.as_ref());
        let (ip, stated) = (entry.context.ip, entry.context.location.clone());
        let at = entry.at.unwrap_or(now);
        Activity {
            session: entry.session,
            device: session.map(|session| session.device.id),
            device_type: session.map(|session| session.device.kind),
            client: session.map(|session| session.client.clone()),
            ip,
            user_agent: entry.context.user_agent.clone(),
            location: stated.or_else(|| ip.and_then(|ip| self.locator.locate(ip))),
            report: Some(entry.report.clone()),
            ..Activity::new(self.clock.new_id(), at, entry.kind, principal, tenant, user)
        }
    }
}

/// The first answer of a repeated call.
fn repeated(known: Remembered, request: RequestId, count: usize) -> Result<Recorded> {
    if known.request != request {
        return Err(Error::RequestIdReused);
    }
    let index = |id: &Uuid| usize::try_from(id.as_u128()).unwrap_or(usize::MAX);
    let rejected: Vec<usize> = known.related.iter().map(index).collect();
    Ok(Recorded { accepted: count.saturating_sub(rejected.len()), rejected })
}
