//! WatchSessions: events of sessions, as they are committed.

use uuid::Uuid;

use crate::cache::feed::{Hub, Subscription as Feed};
use crate::error::Result;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::feed::Position;
use crate::model::ids::{TenantId, UserId};

/// Watches sessions.
pub struct WatchSessions {
    hub: Hub,
}

/// The filter of a watch. An empty one matches all events of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    /// None = all.
    pub kinds: Vec<ActivityKind>,
}

impl WatchSessions {
    /// Watches the feed of `hub`.
    pub fn new(hub: Hub) -> WatchSessions {
        WatchSessions { hub }
    }

    /// Watches the sessions of a tenant, or of all tenants, after a position; without one, from now on.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidCursor`], [`crate::error::Error::Overloaded`],
    /// [`crate::error::Error::Unavailable`].
    pub async fn watch(
        &self,
        tenant: Option<TenantId>,
        filter: EventFilter,
        from: Option<Position>,
    ) -> Result<Feed<Activity>> {
        let shown = move |activity: &Activity| {
            tenant.as_ref().is_none_or(|tenant| activity.tenant == *tenant)
                && filter.matches(activity)
        };
        let pick =
            Box::new(move |activity: &Activity, _: &_| shown(activity).then(|| activity.clone()));
        self.hub.watch(from, pick).await
    }
}

impl EventFilter {
    fn matches(&self, activity: &Activity) -> bool {
        is_event(activity.kind)
            && (self.user.is_none() || self.user == activity.user)
            && (self.session.is_none() || self.session == activity.session)
            && (self.kinds.is_empty() || self.kinds.contains(&activity.kind))
    }
}

/// True for an event of a session.
fn is_event(kind: ActivityKind) -> bool {
    matches!(
        kind,
        ActivityKind::Created
            | ActivityKind::Refreshed
            | ActivityKind::Reauthenticated
            | ActivityKind::SessionUpdated
            | ActivityKind::Terminated
            | ActivityKind::Expired
            | ActivityKind::StepUpRequired
    )
}
