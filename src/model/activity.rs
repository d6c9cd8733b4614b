//! The audit trail: one activity for every committed state change.

use std::net::IpAddr;

use uuid::Uuid;

use crate::clock::Time;
use crate::model::alert::Alert;
use crate::model::ids::{TenantId, UserId};
use crate::model::session::{EndReason, Session, State};
use crate::model::user_device::UserDevice;

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// UUIDv7, made here.
    pub id: Uuid,
    pub tenant: TenantId,
    /// `None` for a change that concerns no single user.
    pub user: Option<UserId>,
    /// When the change was decided; it counts from its commit.
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
    /// Who did it: a calling principal, or [`SYSTEM`].
    pub principal: String,
    /// Of the session's client, after the change.
    pub ip: Option<IpAddr>,
    /// Of the session's client, after the change.
    pub user_agent: Option<String>,
}

/// The principal of what the service does by itself.
pub const SYSTEM: &str = "system";

numbered! {
    /// What happened.
    ActivityKind {
        Created = 1, Refreshed = 2, Terminated = 3, Expired = 4, AlertAcknowledged = 5,
        AlertResolved = 6, Reauthenticated = 7, SessionUpdated = 8, DeviceUpdated = 9,
        DeviceRevoked = 10, PolicyUpdated = 11, UserErased = 12,
    }
}

impl Activity {
    /// The activity of a change to `session`, as it is after the change.
    pub fn of_session(
        id: Uuid,
        now: Time,
        kind: ActivityKind,
        principal: &str,
        session: &Session,
    ) -> Activity {
        let end_reason = match &session.state {
            State::Active => None,
            State::Ended(end) => Some(end.reason),
        };
        Activity {
            id,
            tenant: session.key.tenant.clone(),
            user: Some(session.key.user.clone()),
            occurred_at: now,
            session: Some(session.key.session),
            device: Some(session.device.id),
            alert: None,
            kind,
            end_reason,
            generation: Some(session.chain.generation),
            principal: principal.to_owned(),
            ip: session.ip,
            user_agent: session.user_agent.clone(),
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
        Activity {
            id,
            tenant: device.key.tenant.clone(),
            user: Some(device.key.user.clone()),
            occurred_at: now,
            session: None,
            device: Some(device.key.device),
            alert: None,
            kind,
            end_reason: None,
            generation: None,
            principal: principal.to_owned(),
            ip: None,
            user_agent: None,
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
            id,
            tenant: alert.tenant.clone(),
            user: Some(alert.user.clone()),
            occurred_at: now,
            session: alert.session,
            device: alert.device,
            alert: Some(alert.id),
            kind,
            end_reason: None,
            generation: None,
            principal: principal.to_owned(),
            ip: None,
            user_agent: None,
        }
    }
}
