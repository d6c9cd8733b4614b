//! RecordActivities: adds reports of gateways and login services to the audit trail, in one transaction a call.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::{Error, Result};
use crate::model::activity::{Activity, ActivityKind, ActivityReport};
use crate::model::device::ClientContext;
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::session::Session;
use crate::session::location::Locator;
use crate::session::mutation::{self, Mutation};
use crate::store::activities;
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};

/// Reports that are stored concurrently.
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
    /// The calling principal.
    pub principal: String,
}

/// One report.
pub struct Reported {
    pub session: Option<Uuid>,
    /// Must be the user of the session, if both are given.
    pub user: Option<UserId>,
    pub kind: ActivityKind,
    pub context: ClientContext,
    /// `None` = now.
    pub at: Option<Time>,
    pub report: ActivityReport,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub accepted: usize,
    /// Ascending indexes of the reports that name a session that the tenant, or their user, does not have.
    pub rejected: Vec<usize>,
}

impl RecordActivities {
    /// Records in `db`.
    pub fn new(db: Database, clock: Clock, locator: Locator) -> RecordActivities {
        RecordActivities { db, clock, locator, room: Semaphore::new(IN_FLIGHT) }
    }

    /// Stores the valid reports; they are committed on return.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn record(&self, reports: &Reports) -> Result<Recorded> {
        let rows = u32::try_from(reports.entries.len()).unwrap_or(u32::MAX);
        let _room = self.room.try_acquire_many(rows).map_err(|_| Error::Overloaded)?;
        Ok(mutation::run(&self.db, &self.clock, self, reports).await?.answer)
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

impl Mutation<Reports> for RecordActivities {
    /// The named sessions, by id.
    type Locked = BTreeMap<Uuid, Session>;
    type Answer = Recorded;

    fn request(reports: &Reports) -> Option<(&TenantId, RequestId)> {
        Some((&reports.tenant, reports.request?))
    }

    async fn lock(&self, tx: &mut Transaction, reports: &Reports) -> Result<Self::Locked> {
        let Reports { tenant, entries, .. } = reports;
        // Locks users and sessions in the same order as an erasure, which waits for both, so no
        // report about an erased user is left. A user without a row needs no lock: what commits
        // while an erasure finds no rows counts as reported after it.
        let alone = entries.iter().filter(|entry| entry.session.is_none());
        let users: BTreeSet<&UserId> = alone.filter_map(|entry| entry.user.as_ref()).collect();
        if !users.is_empty() {
            let users: Vec<&UserId> = users.into_iter().collect();
            activities::hold_users(tx, tenant, &users).await?;
        }
        let named: BTreeSet<Uuid> = entries.iter().filter_map(|entry| entry.session).collect();
        if named.is_empty() {
            return Ok(BTreeMap::new());
        }
        let named: Vec<Uuid> = named.into_iter().collect();
        let held = activities::hold_sessions(tx, tenant, &named).await?;
        Ok(held.into_iter().map(|session| (session.key.session, session)).collect())
    }

    async fn repeat(
        &self,
        _: &mut Transaction,
        reports: &Reports,
        _: Self::Locked,
        known: RecordedRequest,
        _: Time,
    ) -> Result<Recorded> {
        let index = |id: &Uuid| usize::try_from(id.as_u128()).unwrap_or(usize::MAX);
        let rejected: Vec<usize> = known.related.iter().map(index).collect();
        Ok(Recorded { accepted: reports.entries.len().saturating_sub(rejected.len()), rejected })
    }

    async fn decide(
        &self,
        _: &mut Transaction,
        reports: &Reports,
        sessions: Self::Locked,
        changes: &mut Changes,
    ) -> Result<Recorded> {
        let Reports { tenant, entries, .. } = reports;
        let mut rejected = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let session = entry.session.and_then(|id| sessions.get(&id));
            let fits = |session: &Session| {
                entry.user.as_ref().is_none_or(|user| *user == session.key.user)
            };
            if entry.session.is_some() && !session.is_some_and(fits) {
                rejected.push(index);
            } else {
                changes.report(self.activity(reports, entry, session, changes.at()));
            }
        }
        if let Some(request) = reports.request {
            changes.record_request(RecordedRequest {
                tenant: tenant.clone(),
                request,
                user: None,
                subject: None,
                // Not ids, but the indexes of the rejected reports: all that a repeated answer needs.
                related: rejected.iter().map(|index| Uuid::from_u128(*index as u128)).collect(),
                at: changes.at(),
            });
        }
        Ok(Recorded { accepted: entries.len() - rejected.len(), rejected })
    }
}
