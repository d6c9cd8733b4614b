//! GetSessionStats: request and response.

use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::session::optional_user;
use crate::grpc::convert::time::to_pb;
use crate::grpc::convert::window::{IN_A_BUCKET, RequestedWindow, most_frequent, window};
use crate::grpc::pb;
use crate::model::ids::TenantId;
use crate::model::session::EndReason;
use crate::model::statistics::window::{Bucket, Figures, Window};
use crate::model::statistics::{Counts, MAX_NAMES, Owner};

/// Checks a request for statistics; returns their owner and time window.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn stats_request(request: &pb::GetSessionStatsRequest, now: Time) -> Result<(Owner, Window)> {
    let mut check = Check::default();
    let asked = RequestedWindow {
        start: request.start_time,
        end: request.end_time,
        bucket: request.bucket,
    };
    let window = window(&mut check, asked, now);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = optional_user(&mut check, &request.user_id);
    let (Some(tenant), Some(window)) = (tenant, window) else { return Err(check.failed()) };
    check.done()?;
    Ok((Owner { tenant, user }, window))
}

/// Statistics as a protobuf message.
pub fn to_pb_stats(figures: Figures) -> pb::GetSessionStatsResponse {
    let bucket = |bucket: &Bucket| pb::SessionStatsBucket {
        start_time: Some(to_pb(bucket.start)),
        end_time: Some(to_pb(bucket.end)),
        stats: Some(stats(&bucket.counts, IN_A_BUCKET)),
    };
    pb::GetSessionStatsResponse {
        active_count: u64::try_from(figures.standing.live).unwrap_or(0),
        total: Some(stats(&figures.total, MAX_NAMES + 1)),
        buckets: figures.buckets.iter().map(bucket).collect(),
        start_time: Some(to_pb(figures.window.start)),
        end_time: Some(to_pb(figures.window.end)),
        as_of_time: Some(to_pb(figures.as_of)),
    }
}

fn stats(counts: &Counts, most: usize) -> pb::SessionStats {
    let expired = |number: i16| {
        EndReason::from_number(number.into()).is_some_and(|reason| reason.is_expiry())
    };
    let ended = |expiry: bool| {
        counts.ended.iter().filter(|(reason, _)| expired(**reason) == expiry).map(|(_, n)| n).sum()
    };
    let reports = counts.succeeded + counts.failed;
    let end_reasons = counts.ended.iter();
    let device_types = counts.device_types.iter();
    pb::SessionStats {
        created_count: counts.created,
        refreshed_count: counts.refreshed,
        reauthenticated_count: counts.reauthenticated,
        terminated_count: ended(false),
        expired_count: ended(true),
        end_reasons: end_reasons
            .map(|(reason, count)| pb::EndReasonCount {
                end_reason: (*reason).into(),
                count: *count,
            })
            .collect(),
        device_types: device_types
            .map(|(kind, count)| pb::DeviceTypeCount { device_type: (*kind).into(), count: *count })
            .collect(),
        countries: most_frequent(&counts.countries, most.min(MAX_NAMES))
            .map(|(country_code, count)| pb::CountryCount { country_code, count })
            .collect(),
        clients: most_frequent(&counts.clients, most)
            .map(|(client_id, count)| pb::ClientCount { client_id, count })
            .collect(),
        peak_active_count: u64::try_from(counts.level.peak).unwrap_or(0),
        succeeded_activity_count: counts.succeeded,
        failed_activity_count: counts.failed,
        activity_success_rate: (reports > 0).then(|| counts.succeeded as f64 / reports as f64),
    }
}
