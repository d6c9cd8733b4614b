//! The unit of work: what one transaction decided to change, one method for each kind of change.
//!
//! Each method yields the rows, the activity and the revocation of its change together, so none of them can be missing.
//! [`Changes::write`] writes all of them in one statement.

pub mod administration;

mod alerts;
mod devices;
mod sessions;
mod write;

use std::collections::BTreeMap;

use crate::clock::{Clock, Time};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::alert::Alert;
use crate::model::ids::{DeviceKey, SessionKey, TenantId, UserId};
use crate::model::policy::overrides::PolicyLevel;
use crate::model::request::{Progress, RecordedRequest, RequestId};
use crate::model::revocation::{Revocation, Subject, digest};
use crate::model::session::Session;
use crate::model::user_device::UserDevice;

use uuid::Uuid;

use administration::Administration;

pub(super) use write::array;

/// What a transaction changes, decided at one moment.
pub struct Changes {
    clock: Clock,
    at: Time,
    sessions: BTreeMap<SessionKey, SessionChange>,
    devices: BTreeMap<DeviceKey, UserDevice>,
    forgotten: Vec<DeviceKey>,
    raised: Vec<Alert>,
    updated_alerts: Vec<Alert>,
    activities: Vec<Activity>,
    remembered: Vec<RecordedRequest>,
    progress: Option<Progress>,
    policies: Vec<PolicyLevel>,
    revocations: Vec<Revocation>,
    administered: Vec<Administration>,
}

/// A session as the transaction leaves it.
struct SessionChange {
    session: Session,
    /// The transaction made it.
    is_new: bool,
}

impl Changes {
    /// No changes yet. They are decided now, so the locks they need are taken before.
    pub fn new(clock: &Clock) -> Changes {
        Changes::decided_at(clock, clock.now())
    }

    /// The same, unless time is in doubt.
    pub fn settled(clock: &Clock) -> Option<Changes> {
        clock.settled().map(|at| Changes::decided_at(clock, at))
    }

    fn decided_at(clock: &Clock, at: Time) -> Changes {
        Changes {
            clock: clock.clone(),
            at,
            sessions: BTreeMap::new(),
            devices: BTreeMap::new(),
            forgotten: Vec::new(),
            raised: Vec::new(),
            updated_alerts: Vec::new(),
            activities: Vec::new(),
            remembered: Vec::new(),
            progress: None,
            policies: Vec::new(),
            revocations: Vec::new(),
            administered: Vec::new(),
        }
    }

    /// When the changes are decided: the time of their activities and revocations.
    pub fn at(&self) -> Time {
        self.at
    }

    /// An id for another row that the transaction makes.
    pub fn new_id(&self) -> Uuid {
        self.clock.new_id()
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
            && self.devices.is_empty()
            && self.forgotten.is_empty()
            && self.raised.is_empty()
            && self.updated_alerts.is_empty()
            && self.activities.is_empty()
            && self.remembered.is_empty()
            && self.progress.is_none()
            && self.policies.is_empty()
            && self.revocations.is_empty()
            && self.administered.is_empty()
    }

    /// Stores a level of policy, new or locked before. [`Changes::shorten_session`] applies it to its sessions.
    pub fn update_policy(&mut self, level: PolicyLevel, by: &str) {
        let tenant = &level.scope.tenant;
        let activity = self.activity(ActivityKind::PolicyUpdated, by, tenant, None);
        self.activities.push(Activity { client: level.scope.client.clone(), ..activity });
        self.policies.push(level);
    }

    /// Withdraws all tokens of a user whose rows the transaction deletes. `first` is the slice that writes the
    /// activity, which names no user. `issued_until` is when the newest of their tokens was issued at the latest.
    pub fn erase_user(
        &mut self,
        tenant: &TenantId,
        user: &UserId,
        by: &str,
        first: bool,
        issued_until: Time,
    ) {
        if first {
            self.activities.push(self.activity(ActivityKind::UserErased, by, tenant, None));
        }
        let subject = Subject::User(digest(tenant, user));
        let at = self.at.max(issued_until);
        self.revoke(Revocation::new(tenant.clone(), subject, at));
    }

    /// Records reports, and changes nothing else.
    pub fn report(&mut self, activity: Activity) {
        self.activities.push(activity);
    }

    /// Withdraws all tokens of a tenant that were issued by then. The ends of its sessions follow.
    pub fn withdraw_tenant(&mut self, tenant: &TenantId, issued_until: Time) {
        self.revoke(Revocation::new(tenant.clone(), Subject::Tenant, issued_until));
    }

    /// Takes a request id, which must not be taken yet.
    pub fn record_request(&mut self, request: RecordedRequest) {
        self.remembered.push(request);
    }

    /// The same for a request that found or made `session`.
    pub fn record_request_of_session(&mut self, request: Option<RequestId>, session: &Session) {
        let remembered =
            request.map(|request| RecordedRequest::of_session(session, request, self.at));
        self.remembered.extend(remembered);
    }

    /// The same for a request about a device; `newest` is the session up to which it ends those of the user, if it does.
    pub fn record_request_of_device(
        &mut self,
        request: Option<RequestId>,
        key: &DeviceKey,
        newest: Option<Uuid>,
    ) {
        self.remembered.extend(request.map(|request| RecordedRequest {
            tenant: key.tenant.clone(),
            request,
            user: Some(key.user.clone()),
            subject: Some(key.device),
            related: newest.into_iter().collect(),
            at: self.at,
        }));
    }

    /// The same for a request about an alert; `newest` as for a device.
    pub fn record_request_of_alert(
        &mut self,
        request: Option<RequestId>,
        alert: &Alert,
        newest: Option<Uuid>,
    ) {
        self.remembered.extend(request.map(|request| RecordedRequest {
            tenant: alert.tenant.clone(),
            request,
            user: alert.user.clone(),
            subject: Some(alert.id),
            related: newest.into_iter().collect(),
            at: self.at,
        }));
    }

    /// The same for a request that is about nothing whose id its answer needs.
    pub fn record_plain_request(&mut self, request: Option<RequestId>, tenant: &TenantId) {
        self.remembered.extend(request.map(|request| RecordedRequest {
            tenant: tenant.clone(),
            request,
            user: None,
            subject: None,
            related: Vec::new(),
            at: self.at,
        }));
    }

    /// Stores the progress of a request that runs in steps; its row is locked, or taken by this transaction.
    pub fn advance(&mut self, progress: Progress) {
        self.progress = Some(progress);
    }

    fn activity(
        &self,
        kind: ActivityKind,
        by: &str,
        tenant: &TenantId,
        user: Option<&UserId>,
    ) -> Activity {
        Activity::new(self.clock.new_id(), self.at, kind, by, tenant, user)
    }

    /// One revocation for each subject, the widest.
    fn revoke(&mut self, revocation: Revocation) {
        let same = |of: &&mut Revocation| {
            of.tenant == revocation.tenant && of.subject == revocation.subject
        };
        match self.revocations.iter_mut().find(same) {
            Some(known) => known.widen(&revocation),
            None => self.revocations.push(revocation),
        }
    }
}
