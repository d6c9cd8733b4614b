//! Activities and ListActivitiesRequest.

mod report;

use uuid::Uuid;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::lists::page_size;
use crate::grpc::convert::session::network;
use crate::grpc::convert::time::{duration_to_pb, time, to_pb};
use crate::grpc::pb;
use crate::model::activity::{Activity, ActivityFilter, ActivityKind, ActivityReport};
use crate::model::administration::AdministrativeChange;
use crate::model::ids::{ClientId, TenantId, UserId};

pub use report::{reports, to_pb_recorded};

/// The most kinds in a filter.
const MAX_KINDS: usize = 32;

/// Checks a list request; returns tenant, filter and page size.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn filter(request: &pb::ListActivitiesRequest) -> Result<(TenantId, ActivityFilter, usize)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse_or_all(&request.tenant_id));
    let size = page_size(&mut check, request.page_size);
    let pb = request.filter.clone().unwrap_or_default();
    let user = Some(pb.user_id).filter(|text| !text.is_empty());
    let filter = ActivityFilter {
        user: user.and_then(|text| check.take("filter.user_id", UserId::parse(&text))),
        session: check.uuid("filter.session_id", &pb.session_id),
        kinds: check.values("filter.kinds", &pb.kinds, MAX_KINDS, ActivityKind::from_number),
        success: pb.success,
        after: time(&mut check, "filter.occurred_after_time", pb.occurred_after_time),
        before: time(&mut check, "filter.occurred_before_time", pb.occurred_before_time),
        network: Some(pb.ip_prefix)
            .filter(|text| !text.is_empty())
            .and_then(|text| check.take("filter.ip_prefix", network(&text))),
        device: check.uuid("filter.device_id", &pb.device_id),
        client: Some(pb.client_id)
            .filter(|text| !text.is_empty())
            .and_then(|text| check.take("filter.client_id", ClientId::parse(&text))),
        principal: check.text("filter.principal", &pb.principal, 256),
        alert: check.uuid("filter.alert_id", &pb.alert_id),
    };
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, filter, size))
}

/// An activity as a protobuf message. The kinds have the same numbers.
pub fn to_pb_activity(activity: Activity) -> pb::Activity {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    pb::Activity {
        activity_id: activity.id.to_string(),
        kind: i32::from(activity.kind as i16),
        occur_time: Some(to_pb(activity.occurred_at)),
        tenant_id: activity.tenant.to_string(),
        user_id: activity.user.map(|user| user.to_string()).unwrap_or_default(),
        session_id: id(activity.session),
        device_id: id(activity.device),
        alert_id: id(activity.alert),
        client_id: activity.client.map(|client| client.to_string()).unwrap_or_default(),
        device_type: activity.device_type.map_or(0, |kind| i32::from(kind as i16)),
        ip_address: activity.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        user_agent: activity.user_agent.unwrap_or_default(),
        location: activity.location.map(client::location_to_pb),
        principal: activity.principal,
        end_reason: activity.end_reason.map_or(0, |reason| i32::from(reason as i16)),
        refresh_generation: activity.generation.unwrap_or_default(),
        report: activity.report.map(to_pb_report),
        change: activity.change.map(to_pb_change),
    }
}

fn to_pb_report(report: ActivityReport) -> pb::ActivityReport {
    pb::ActivityReport {
        name: report.name.unwrap_or_default(),
        endpoint: report.endpoint.unwrap_or_default(),
        method: report.method.unwrap_or_default(),
        success: report.success,
        error_code: report.error_code.unwrap_or_default(),
        latency: report.latency.map(duration_to_pb),
        metadata: report.metadata,
    }
}

fn to_pb_change(change: AdministrativeChange) -> pb::AdministrativeChange {
    let AdministrativeChange { principal, key, before, after } = change;
    pb::AdministrativeChange {
        principal: principal.unwrap_or_default(),
        key_id: key.unwrap_or_default(),
        before,
        after,
    }
}
