//! GetSessionStats: request and response.

use prost::Message;

use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::lists::MAX_BYTES;
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

/// Statistics as a protobuf message of at most [`MAX_BYTES`]: if client ids are too long for that, each bucket names
/// fewer of its most frequent clients. The counts and the total stay complete.
pub fn to_pb_stats(figures: Figures) -> pb::GetSessionStatsResponse {
    let mut response = with_clients(&figures);
    for most in (0..IN_A_BUCKET).rev() {
        if response.encoded_len() <= MAX_BYTES {
            break;
        }
        let of_buckets = response.buckets.iter_mut().filter_map(|bucket| bucket.stats.as_mut());
        of_buckets.for_each(|stats| stats.clients.truncate(most));
    }
    response
}

/// The statistics, with the 10 most frequent clients of each bucket.
fn with_clients(figures: &Figures) -> pb::GetSessionStatsResponse {
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

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};

    use super::*;
    use crate::model::statistics::OpenCounts;

    fn figures(clients: &[String]) -> Figures {
        let hour = Duration::hours(1);
        let start = DateTime::UNIX_EPOCH;
        let end = start + hour * 1000;
        let counts = Counts {
            created: 55,
            clients: clients.iter().cloned().zip(1..).collect(),
            ..Counts::default()
        };
        let buckets = (0..1000).map(|n| Bucket {
            start: start + hour * n,
            end: start + hour * (n + 1),
            counts: counts.clone(),
        });
        Figures {
            window: Window { start, end, bucket: hour },
            standing: OpenCounts::default(),
            total: counts.clone(),
            buckets: buckets.collect(),
            as_of: end,
        }
    }

    #[test]
    fn long_names_of_clients_do_not_make_the_answer_too_large() {
        let long: Vec<String> =
            (0..10).map(|n| format!("{n}{}", "\u{1F600}".repeat(127))).collect();
        let answer = to_pb_stats(figures(&long));
        assert!(answer.encoded_len() <= MAX_BYTES, "{}", answer.encoded_len());
        assert_eq!(answer.buckets.len(), 1000);
        assert_eq!(answer.total.map(|total| total.clients.len()), Some(10));
        for stats in answer.buckets.into_iter().filter_map(|bucket| bucket.stats) {
            assert_eq!(stats.created_count, 55);
            assert!((1..10).contains(&stats.clients.len()), "{}", stats.clients.len());
            assert_eq!(stats.clients[0].client_id, long[9], "the most frequent stay");
        }
        let short: Vec<String> = (0..10).map(|n| format!("client {n}")).collect();
        let mut buckets = to_pb_stats(figures(&short)).buckets.into_iter();
        assert!(buckets.all(|bucket| bucket.stats.is_some_and(|stats| stats.clients.len() == 10)));
    }
}
