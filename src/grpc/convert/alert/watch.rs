//! WatchAlerts: request and response.

use super::{alert_filter, to_pb_alert};
use crate::alert::watch::{AlertEvent, AlertEventKind};
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::to_pb;
use crate::grpc::convert::watch::{Wish, input, watched};
use crate::grpc::pb;
use crate::model::alert::AlertFilter;
use crate::model::ids::TenantId;

/// Checks a request to watch.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn watch(request: pb::WatchAlertsRequest) -> Result<(Option<TenantId>, AlertFilter, Wish)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", watched(&request.tenant_id));
    let filter = alert_filter(&mut check, request.filter.unwrap_or_default());
    let input = input(&mut check, request.cursor, request.heartbeat_interval);
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, filter, input))
}

/// A message of the stream; without an event it is a heartbeat.
pub fn to_pb_watched(event: Option<AlertEvent>, cursor: String) -> pb::WatchAlertsResponse {
    let event = event.map(|event| pb::AlertEvent {
        event_id: event.id.to_string(),
        kind: kind(event.kind).into(),
        occur_time: Some(to_pb(event.at)),
        principal: event.principal,
        alert: Some(to_pb_alert(event.alert)),
    });
    pb::WatchAlertsResponse { event, cursor }
}

fn kind(kind: AlertEventKind) -> pb::AlertEventKind {
    match kind {
        AlertEventKind::Raised => pb::AlertEventKind::Raised,
        AlertEventKind::Repeated => pb::AlertEventKind::Repeated,
        AlertEventKind::Acknowledged => pb::AlertEventKind::Acknowledged,
        AlertEventKind::Resolved => pb::AlertEventKind::Resolved,
        AlertEventKind::Reopened => pb::AlertEventKind::Reopened,
        AlertEventKind::Noted => pb::AlertEventKind::Noted,
    }
}
