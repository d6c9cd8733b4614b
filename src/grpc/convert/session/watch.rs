//! WatchSessions: request and response.

use uuid::Uuid;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::time::to_pb;
use crate::grpc::convert::watch::{Wish, input, watched};
use crate::grpc::pb;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::ids::{TenantId, UserId};
use crate::session::watch::EventFilter;

/// The most kinds in a filter.
const MAX_KINDS: usize = 16;

/// Checks a request to watch.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn watch(request: pb::WatchSessionsRequest) -> Result<(Option<TenantId>, EventFilter, Wish)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", watched(&request.tenant_id));
    let pb = request.filter.unwrap_or_default();
    let user = Some(pb.user_id).filter(|text| !text.is_empty());
    let filter = EventFilter {
        user: user.and_then(|text| check.take("filter.user_id", UserId::parse(&text))),
        session: check.uuid("filter.session_id", &pb.session_id),
        kinds: check.values("filter.kinds", &pb.kinds, MAX_KINDS, |number| {
            pb::SessionEventKind::try_from(number).ok().and_then(kind_of)
        }),
    };
    let input = input(&mut check, request.cursor, request.heartbeat_interval);
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, filter, input))
}

fn kind_of(kind: pb::SessionEventKind) -> Option<ActivityKind> {
    Some(match kind {
        pb::SessionEventKind::Unspecified => return None,
        pb::SessionEventKind::Created => ActivityKind::Created,
        pb::SessionEventKind::Refreshed => ActivityKind::Refreshed,
        pb::SessionEventKind::Reauthenticated => ActivityKind::Reauthenticated,
        pb::SessionEventKind::Updated => ActivityKind::SessionUpdated,
        pb::SessionEventKind::Terminated => ActivityKind::Terminated,
        pb::SessionEventKind::Expired => ActivityKind::Expired,
        pb::SessionEventKind::StepUpRequired => ActivityKind::StepUpRequired,
    })
}

fn kind(kind: ActivityKind) -> pb::SessionEventKind {
    match kind {
        ActivityKind::Created => pb::SessionEventKind::Created,
        ActivityKind::Refreshed => pb::SessionEventKind::Refreshed,
        ActivityKind::Reauthenticated => pb::SessionEventKind::Reauthenticated,
        ActivityKind::SessionUpdated => pb::SessionEventKind::Updated,
        ActivityKind::Terminated => pb::SessionEventKind::Terminated,
        ActivityKind::Expired => pb::SessionEventKind::Expired,
        ActivityKind::StepUpRequired => pb::SessionEventKind::StepUpRequired,
        // A watch of sessions sends no other kinds.
        _ => pb::SessionEventKind::Unspecified,
    }
}

/// A message of the stream; without an event it is a heartbeat.
pub fn to_pb_watched(event: Option<Activity>, cursor: String) -> pb::WatchSessionsResponse {
    pb::WatchSessionsResponse { event: event.map(to_pb_event), cursor }
}

fn to_pb_event(activity: Activity) -> pb::SessionEvent {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    pb::SessionEvent {
        event_id: activity.id.to_string(),
        kind: kind(activity.kind).into(),
        occur_time: Some(to_pb(activity.occurred_at)),
        tenant_id: activity.tenant.to_string(),
        user_id: activity.user.map(|user| user.to_string()).unwrap_or_default(),
        session_id: id(activity.session),
        device_id: id(activity.device),
        client_id: activity.client.map(|client| client.to_string()).unwrap_or_default(),
        device_type: activity.device_type.map_or(0, |kind| i32::from(kind as i16)),
        ip_address: activity.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: activity.user_agent.unwrap_or_default(),
        location: activity.location.map(client::location_to_pb),
        principal: activity.principal,
        end_reason: activity.end_reason.map_or(0, |reason| i32::from(reason as i16)),
        refresh_generation: activity.generation.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn every_violation_of_a_filter_is_named() {
        let mut kinds = vec![1; 16];
        kinds.extend([99; 1000]);
        kinds[1] = 98;
        kinds[3] = 0;
        let filter =
            pb::SessionEventFilter { kinds, session_id: "x".to_owned(), ..Default::default() };
        let request = pb::WatchSessionsRequest { filter: Some(filter), ..Default::default() };
        let Err(Error::Invalid(violations)) = watch(request) else { panic!("it was accepted") };
        let fields: Vec<&str> = violations.iter().map(|v| v.field.as_str()).collect();
        let named = ["filter.session_id", "filter.kinds", "filter.kinds[1]", "filter.kinds[3]"];
        assert_eq!(fields, named);
    }
}
