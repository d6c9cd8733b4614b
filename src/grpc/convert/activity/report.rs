//! RecordActivitiesRequest.

use chrono::Duration;

use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::time::{duration, time};
use crate::grpc::pb;
use crate::model::activity::{ActivityKind, ActivityReport, Origin};
use crate::model::ids::{TenantId, UserId, text_of};
use crate::session::record_activities::{Recorded, Reported, Reports};

const MOST: usize = 1000;
/// How far in the future a report may be, for clock skew of the reporter.
const AHEAD: Duration = Duration::seconds(5);
/// How far in the past a report may be.
const BEHIND: Duration = Duration::hours(24);
const MAX_LATENCY: Duration = Duration::hours(24);

/// Checks reports. Only the first invalid report is named, since the violations of all might not fit a response.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn reports(
    mut request: pb::RecordActivitiesRequest,
    now: Time,
    principal: String,
) -> Result<Reports> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let request_id = request_id(&mut check, &principal, "RecordActivities", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    if !(1..=MOST).contains(&request.activities.len()) {
        check.broken("activities", format!("must be 1 to {MOST}"));
    }
    let mut entries = Vec::with_capacity(request.activities.len().min(MOST));
    for (i, pb) in request.activities.into_iter().take(MOST).enumerate() {
        let mut inner = Check::default();
        let read = reported(&mut inner, pb, now);
        let sound = inner.is_sound();
        check.within(&format!("activities[{i}]"), inner);
        match read {
            Some(entry) if sound => entries.push(entry),
            _ => break,
        }
    }
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok(Reports { tenant, entries, request: request_id, principal })
}

fn reported(check: &mut Check, pb: pb::ReportedActivity, now: Time) -> Option<Reported> {
    let user = Some(pb.user_id).filter(|text| !text.is_empty());
    let user = user.and_then(|text| check.take("user_id", UserId::parse(&text)));
    let session = check.uuid("session_id", &pb.session_id);
    let kind = check.take("kind", kind(pb.kind));
    if pb.client.as_ref().is_some_and(|client| client.device.is_some()) {
        check.broken("client.device", "must be unset");
    }
    let context = client::context(check, pb.client);
    check.entries("metadata", &pb.metadata);
    let name = match kind {
        Some(ActivityKind::Custom) => check.take("name", text_of(&pb.name, 1, 64)),
        _ if !pb.name.is_empty() => {
            check.broken("name", "must be empty unless the kind is CUSTOM");
            None
        }
        _ => None,
    };
    let latency = duration(check, "latency", pb.latency);
    if latency.is_some_and(|latency| !(Duration::zero()..=MAX_LATENCY).contains(&latency)) {
        check.broken("latency", "must be 0s to 24h");
    }
    let at = time(check, "occur_time", pb.occur_time);
    if at.is_some_and(|at| !(now - BEHIND..=now + AHEAD).contains(&at)) {
        check.broken("occur_time", "must be at most 5 s in the future and 24 h in the past");
    }
    let endpoint = check.text("endpoint", &pb.endpoint, 256);
    let method = check.text("method", &pb.method, 32);
    let error_code = check.text("error_code", &pb.error_code, 64);
    let kind = kind?;
    let success = match kind {
        ActivityKind::LoginSucceeded => true,
        ActivityKind::LoginFailed | ActivityKind::TokenRefused => false,
        _ => check
            .take("success", pb.success.ok_or_else(|| "is required for this kind".to_owned()))?,
    };
    if pb.success.is_some_and(|stated| stated != success) {
        check.broken("success", format!("must be {success} or unset for this kind"));
    }
    let metadata = pb.metadata;
    let report = ActivityReport { name, endpoint, method, success, error_code, latency, metadata };
    Some(Reported { session, user, kind, context, at, report })
}

/// Parses a kind that callers may report.
fn kind(number: i32) -> Result<ActivityKind, String> {
    let kind = ActivityKind::from_number(number);
    let reported = kind.filter(|kind| kind.origin() == Origin::Report);
    reported.ok_or_else(|| "must be a kind that can be reported".to_owned())
}

/// The result of a recording as a protobuf message.
pub fn to_pb_recorded(recorded: &Recorded) -> pb::RecordActivitiesResponse {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let rejected = recorded.rejected.iter().map(|index| pb::RejectedActivity {
        index: number(*index),
        reason: pb::ErrorReason::SessionNotFound.into(),
    });
    pb::RecordActivitiesResponse {
        accepted_count: number(recorded.accepted),
        rejected: rejected.collect(),
    }
}
