//! The audit trail: one activity for every committed state change.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::Duration;
use ipnet::IpNet;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::administration::AdministrativeChange;
use crate::model::alert::Alert;
use crate::model::device::{DeviceType, Location};
use crate::model::ids::{ClientId, DeviceKey, SessionKey, TenantId, UserId};
use crate::model::session::{EndReason, Session, State};
use crate::model::user_device::UserDevice;

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// UUIDv7, made here.
    pub id: Uuid,
    pub tenant: TenantId,
    /// `None` for a change that concerns no single user.
    pub user: Option<UserId>,
    /// When the change was decided; it takes effect with its commit.
    pub occurred_at: Time,
    pub session: Option<Uuid>,
    pub device: Option<Uuid>,
    /// For changes to alerts only.
    pub alert: Option<Uuid>,
    pub kind: ActivityKind,
    /// For sessions that ended.
    pub end_reason: Option<EndReason>,
    /// The refresh generation after the change, from 1; for sessions only.
    pub generation: Option<u32>,
    /// The actor: a calling principal, an operator as [`crate::model::caller::operator`] writes them, or [`SYSTEM`].
    pub principal: String,
    /// Of the session's client, after the change.
    pub ip: Option<IpAddr>,
    /// Of the session's client, after the change.
    pub user_agent: Option<String>,
    pub client: Option<ClientId>,
    pub device_type: Option<DeviceType>,
    /// The location of `ip`, as far as it is known.
    pub location: Option<Location>,
    /// The report; `None` for an action of the service itself.
    pub report: Option<ActivityReport>,
    /// The administrative change.
    pub change: Option<AdministrativeChange>,
}

/// The report of an event by a gateway or a login service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActivityReport {
    /// For [`ActivityKind::Custom`]: its name, 1 to 64 characters.
    pub name: Option<String>,
    /// The endpoint that was called: at most 256 characters.
    pub endpoint: Option<String>,
    /// The method, such as `GET`: at most 32 characters.
    pub method: Option<String>,
    pub success: bool,
    /// At most 64 characters.
    pub error_code: Option<String>,
    /// How long it took, 0 or more.
    pub latency: Option<Duration>,
    /// The reporter's own: up to 32 entries and 4096 bytes.
    pub metadata: BTreeMap<String, String>,
}

/// Selects activities: those that match every field that is set.
#[derive(Debug, Clone, Default)]
pub struct ActivityFilter {
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    /// Empty = all.
    pub kinds: Vec<ActivityKind>,
    /// Reports only.
    pub success: Option<bool>,
    /// At or after.
    pub after: Option<Time>,
    pub before: Option<Time>,
    pub network: Option<IpNet>,
    pub device: Option<Uuid>,
    pub client: Option<ClientId>,
    /// The actor.
    pub principal: Option<String>,
    pub alert: Option<Uuid>,
}

impl ActivityFilter {
    /// True if it selects by more than user and time, so that rows are filtered after the index.
    pub fn searches(&self) -> bool {
        let by_id = self.session.or(self.alert).or(self.device).is_some();
        let by_whom = self.client.is_some() || self.principal.is_some() || self.network.is_some();
        by_id || by_whom || !self.kinds.is_empty() || self.success.is_some()
    }
}

/// The actor of what the service does by itself.
pub const SYSTEM: &str = "system";

numbered! {
    /// What happened; [`ActivityKind::origin`] says what the source is.
    ActivityKind {
        Created = 1, Refreshed = 2, Terminated = 3, Expired = 4, AlertAcknowledged = 5,
        AlertResolved = 6, Reauthenticated = 7, SessionUpdated = 8, DeviceUpdated = 9,
        DeviceRevoked = 10, PolicyUpdated = 11, UserErased = 12,
        AlertRaised = 13, AlertReopened = 14, StepUpRequired = 15, DeviceForgotten = 16,
        AlertNoted = 17,
        ApiRequest = 20, LoginSucceeded = 21, LoginFailed = 22, StepUp = 23, TokenRefused = 24,
        Custom = 25, ContextChanged = 26, LimitConflict = 27,
        PrincipalSet = 30, PrincipalRemoved = 31, ApiKeyCreated = 32, ApiKeyRevoked = 33,
        SigningKeyPublished = 34, SigningKeyRescheduled = 35, SigningKeyRemoved = 36,
        SigningKeyForgotten = 37,
    }
}

/// The source of an activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It changed a session, a device, an alert, a policy or a user.
    Change,
    /// Callers report it; the service may observe it as well.
    Report,
    /// The service observes it.
    Observation,
    /// It changed a principal, an API key or a signing key.
    Administration,
}

impl ActivityKind {
    /// True for a change of a session, a device, an alert, a policy or a user.
    pub fn is_change(self) -> bool {
        self.origin() == Origin::Change
    }

    /// The source of activities of this kind.
    pub fn origin(self) -> Origin {
        match self {
            ActivityKind::Created
            | ActivityKind::Refreshed
            | ActivityKind::Terminated
            | ActivityKind::Expired
            | ActivityKind::AlertAcknowledged
            | ActivityKind::AlertResolved
            | ActivityKind::Reauthenticated
            | ActivityKind::SessionUpdated
            | ActivityKind::DeviceUpdated
            | ActivityKind::DeviceRevoked
            | ActivityKind::PolicyUpdated
            | ActivityKind::UserErased
            | ActivityKind::AlertRaised
            | ActivityKind::AlertReopened
            | ActivityKind::StepUpRequired
            | ActivityKind::DeviceForgotten
            | ActivityKind::AlertNoted => Origin::Change,
            ActivityKind::ApiRequest
            | ActivityKind::LoginSucceeded
            | ActivityKind::LoginFailed
            | ActivityKind::StepUp
            | ActivityKind::TokenRefused
            | ActivityKind::Custom => Origin::Report,
            ActivityKind::ContextChanged | ActivityKind::LimitConflict => Origin::Observation,
            ActivityKind::PrincipalSet
            | ActivityKind::PrincipalRemoved
            | ActivityKind::ApiKeyCreated
            | ActivityKind::ApiKeyRevoked
            | ActivityKind::SigningKeyPublished
            | ActivityKind::SigningKeyRescheduled
            | ActivityKind::SigningKeyRemoved
            | ActivityKind::SigningKeyForgotten => Origin::Administration,
        }
    }
}

impl Activity {
    /// How often it happened. Repeated observations within a minute are one activity.
    pub fn times(&self) -> usize {
        let count = |report: &ActivityReport| report.metadata.get("count")?.parse().ok();
        let observation = self.report.as_ref().filter(|_| self.principal == SYSTEM);
        observation.and_then(count).unwrap_or(1)
    }

    /// An activity with its kind, time and actor only.
    pub fn new(
        id: Uuid,
        now: Time,
        kind: ActivityKind,
        principal: &str,
        tenant: &TenantId,
        user: Option<&UserId>,
    ) -> Activity {
        Activity {
            id,
            tenant: tenant.clone(),
            user: user.cloned(),
            occurred_at: now,
            session: None,
            device: None,
            alert: None,
            kind,
            end_reason: None,
            generation: None,
            principal: principal.to_owned(),
            ip: None,
            user_agent: None,
            client: None,
            device_type: None,
            location: None,
            report: None,
            change: None,
        }
    }

    /// The activity of a change to `session`, as it is after the change.
    pub fn of_session(
        id: Uuid,
        now: Time,
        kind: ActivityKind,
        principal: &str,
        session: &Session,
    ) -> Activity {
        let SessionKey { tenant, user, session: session_id } = &session.key;
        Activity {
            session: Some(*session_id),
            device: Some(session.device.id),
            end_reason: match &session.state {
                State::Active => None,
                State::Ended(end) => Some(end.reason),
            },
            generation: Some(session.chain.generation),
            ip: session.ip,
            user_agent: session.user_agent.clone(),
            client: Some(session.client.clone()),
            device_type: Some(session.device.kind),
            location: session.location.clone(),
            ..Activity::new(id, now, kind, principal, tenant, Some(user))
        }
    }

    /// The activity of a change to `device`.
    pub fn of_device(
        id: Uuid,
        now: Time,
        kind: ActivityKind,
        principal: &str,
        device: &UserDevice,
    ) -> Activity {
        let DeviceKey { tenant, user, device } = &device.key;
        Activity {
            device: Some(*device),
            ..Activity::new(id, now, kind, principal, tenant, Some(user))
        }
    }

    /// The activity of a change to `alert`.
    pub fn of_alert(
        id: Uuid,
        now: Time,
        kind: ActivityKind,
        principal: &str,
        alert: &Alert,
    ) -> Activity {
        Activity {
            session: alert.session,
            device: alert.device,
            alert: Some(alert.id),
            ..Activity::new(id, now, kind, principal, &alert.tenant, alert.user.as_ref())
        }
    }
}
