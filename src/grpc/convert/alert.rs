//! Alerts, GetAlertRequest and ListAlertsRequest.

pub mod evidence;
mod report;
mod stats;
mod steps;
mod watch;

use uuid::Uuid;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::lists::page_size;
use crate::grpc::convert::time::{time, to_pb};
use crate::grpc::pb;
use crate::model::alert::{Alert, AlertFilter, AlertState, Category, Severity};
use crate::model::ids::{TenantId, UserId};

pub use report::report;
pub use stats::{stats_request, to_pb_stats};
pub use steps::{acknowledgement, note, reopening, resolution};
pub use watch::{to_pb_watched, watch};

/// The most categories or states of a filter.
const MAX_VALUES: usize = 16;

/// An alert as a protobuf message.
pub fn to_pb_alert(alert: Alert) -> pb::SecurityAlert {
    let state = i32::from(alert.state.number());
    let (acknowledged, resolved, resolution) = match alert.state {
        AlertState::Open => (None, None, 0),
        AlertState::Acknowledged(mark) => (Some(mark), None, 0),
        AlertState::Resolved { acknowledged, resolved, resolution } => {
            (acknowledged, Some(resolved), i32::from(resolution as i16))
        }
    };
    let unsigned = |number: i32| u32::try_from(number).unwrap_or(0);
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    pb::SecurityAlert {
        alert_id: alert.id.to_string(),
        tenant_id: alert.tenant.to_string(),
        user_id: alert.user.map(|user| user.to_string()).unwrap_or_default(),
        session_id: id(alert.session),
        device_id: id(alert.device),
        category: i32::from(alert.category as i16),
        severity: i32::from(alert.severity as i16),
        rule_id: alert.rule_id,
        rule_version: unsigned(alert.rule_version),
        title: alert.title,
        description: alert.description,
        evidence: Some(evidence::to_pb(alert.evidence)),
        state,
        occurrence_count: unsigned(alert.occurrence_count),
        first_seen_time: Some(to_pb(alert.first_seen_at)),
        last_seen_time: Some(to_pb(alert.last_seen_at)),
        dedup_key: alert.dedup_key,
        action_taken: i32::from(alert.action_taken as i16),
        acknowledged_time: acknowledged.as_ref().map(|mark| to_pb(mark.at)),
        acknowledged_by: acknowledged.map(|mark| mark.by).unwrap_or_default(),
        resolved_time: resolved.as_ref().map(|mark| to_pb(mark.at)),
        resolved_by: resolved.map(|mark| mark.by).unwrap_or_default(),
        resolution,
        notes: alert
            .notes
            .into_iter()
            .map(|note| pb::AlertNote {
                note: note.text,
                principal: note.by,
                create_time: Some(to_pb(note.at)),
            })
            .collect(),
        etag: alert.revision.to_string(),
        suppression: alert.suppression.map_or(0, |why| i32::from(why as i16)),
        suppressed_until_time: alert.suppressed_until.map(to_pb),
        raised_by: alert.raised_by,
        assignee: alert.assignee.unwrap_or_default(),
    }
}

/// Checks a request for an alert; returns tenant and alert id.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn name(request: &pb::GetAlertRequest) -> Result<(TenantId, Uuid)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let alert = check.required_uuid("alert_id", &request.alert_id);
    let (Some(tenant), Some(alert)) = (tenant, alert) else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, alert))
}

/// Checks a list request; returns tenant, filter and page size.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn filter(request: &pb::ListAlertsRequest) -> Result<(TenantId, AlertFilter, usize)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let size = page_size(&mut check, request.page_size);
    let filter = alert_filter(&mut check, request.filter.clone().unwrap_or_default());
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, filter, size))
}

/// Checks a filter.
fn alert_filter(check: &mut Check, pb: pb::AlertFilter) -> AlertFilter {
    let user = Some(pb.user_id).filter(|text| !text.is_empty());
    let state = |number| pb::AlertState::try_from(number).ok().map(|state| state as i16);
    use pb::SuppressedFilter::{Exclude, Include, Only, Unspecified};
    let suppressed = |number| match pb::SuppressedFilter::try_from(number).ok()? {
        Unspecified | Exclude => Some(Some(false)),
        Only => Some(Some(true)),
        Include => Some(None),
    };
    AlertFilter {
        user: user.and_then(|text| check.take("filter.user_id", UserId::parse(&text))),
        session: check.uuid("filter.session_id", &pb.session_id),
        categories: check.values(
            "filter.categories",
            &pb.categories,
            MAX_VALUES,
            Category::from_number,
        ),
        minimum_severity: check.value(
            "filter.minimum_severity",
            pb.minimum_severity,
            Severity::from_number,
        ),
        states: check.values("filter.states", &pb.states, MAX_VALUES, state),
        rule_id: check.text("filter.rule_id", &pb.rule_id, 64),
        last_seen_after: time(check, "filter.last_seen_after_time", pb.last_seen_after_time),
        last_seen_before: time(check, "filter.last_seen_before_time", pb.last_seen_before_time),
        suppressed: check
            .value("filter.suppressed", pb.suppressed, suppressed)
            .unwrap_or(Some(false)),
        assignee: check.text("filter.assignee", &pb.assignee, 128),
    }
}
