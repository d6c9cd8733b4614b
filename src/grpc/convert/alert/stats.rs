//! GetAlertStats: request and response.

use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::{duration_to_pb, to_pb};
use crate::grpc::convert::window::{IN_A_BUCKET, RequestedWindow, most_frequent, window};
use crate::grpc::pb;
use crate::model::ids::{TenantId, UserId};
use crate::model::statistics::alerts::AlertCounts;
use crate::model::statistics::window::{Bucket, Figures, Window};
use crate::model::statistics::{MAX_NAMES, Owner};

/// Checks a request for statistics; returns their owner and time window.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn stats_request(request: pb::GetAlertStatsRequest, now: Time) -> Result<(Owner, Window)> {
    let mut check = Check::default();
    let asked = RequestedWindow {
        start: request.start_time,
        end: request.end_time,
        bucket: request.bucket,
    };
    let window = window(&mut check, asked, now);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = Some(request.user_id).filter(|text| !text.is_empty());
    let user = user.and_then(|text| check.take("user_id", UserId::parse(&text)));
    let (Some(tenant), Some(window)) = (tenant, window) else { return Err(check.failed()) };
    check.done()?;
    Ok((Owner { tenant, user }, window))
}

/// Statistics as a protobuf message.
pub fn to_pb_stats(figures: Figures) -> pb::GetAlertStatsResponse {
    let bucket = |bucket: &Bucket| pb::AlertStatsBucket {
        start_time: Some(to_pb(bucket.start)),
        end_time: Some(to_pb(bucket.end)),
        stats: Some(stats(&bucket.counts.alerts, IN_A_BUCKET)),
    };
    let count = |there: i64| u64::try_from(there).unwrap_or(0);
    pb::GetAlertStatsResponse {
        open_count: count(figures.standing.open_alerts),
        acknowledged_count: count(figures.standing.acknowledged_alerts),
        total: Some(stats(&figures.total.alerts, MAX_NAMES + 1)),
        buckets: figures.buckets.iter().map(bucket).collect(),
        start_time: Some(to_pb(figures.window.start)),
        end_time: Some(to_pb(figures.window.end)),
        as_of_time: Some(to_pb(figures.as_of)),
    }
}

fn stats(counts: &AlertCounts, most: usize) -> pb::AlertStats {
    let (categories, severities) = (counts.categories.iter(), counts.severities.iter());
    pb::AlertStats {
        raised_count: counts.categories.values().sum(),
        categories: categories
            .map(|(number, n)| pb::CategoryCount { category: (*number).into(), count: *n })
            .collect(),
        severities: severities
            .map(|(number, n)| pb::SeverityCount { severity: (*number).into(), count: *n })
            .collect(),
        rules: most_frequent(&counts.rules, most)
            .map(|(rule_id, count)| pb::RuleCount { rule_id, count })
            .collect(),
        acknowledged_count: counts.acknowledged.count,
        resolved_count: counts.resolved.count,
        reopened_count: counts.reopened,
        mean_time_to_acknowledge: counts.acknowledged.mean().map(duration_to_pb),
        mean_time_to_resolve: counts.resolved.mean().map(duration_to_pb),
    }
}
