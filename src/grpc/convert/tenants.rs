//! Summaries of tenants and users.

use crate::grpc::pb;
use crate::model::statistics::Summary;

/// A tenant as a protobuf message.
pub fn to_pb_tenant(summary: Summary) -> pb::TenantSummary {
    let Summary { name, standing, .. } = summary;
    pb::TenantSummary {
        tenant_id: name,
        active_session_count: count(standing.live),
        open_alert_count: count(standing.open_alerts),
        acknowledged_alert_count: count(standing.acknowledged_alerts),
    }
}

/// A user as a protobuf message.
pub fn to_pb_user(summary: Summary) -> pb::UserSummary {
    let Summary { name, standing, devices } = summary;
    pb::UserSummary {
        user_id: name,
        active_session_count: count(standing.live),
        open_alert_count: count(standing.open_alerts),
        acknowledged_alert_count: count(standing.acknowledged_alerts),
        device_count: u32::try_from(devices).unwrap_or(0),
    }
}

/// A count as unsigned; 0 if it is negative.
fn count(figure: i64) -> u64 {
    u64::try_from(figure).unwrap_or(0)
}
