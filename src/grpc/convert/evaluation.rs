//! EvaluateRules.

use chrono::Duration;
use uuid::Uuid;

use crate::error::Result;
use crate::grpc::convert::alert::evidence;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::policy::detection;
use crate::grpc::convert::time::{duration, time, to_pb as to_pb_time};
use crate::grpc::pb;
use crate::model::detection::overrides::DetectionOverrides;
use crate::model::ids::{TenantId, UserId};
use crate::session::evaluate::replay::{Difference, Tally};
use crate::session::evaluate::{Evaluated, Evaluation};

/// The longest time range of an evaluation, and the longest warm-up.
const LONGEST: Duration = Duration::days(31);
const WARM_UP: Duration = Duration::days(7);

/// Checks a request for an evaluation.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn evaluation(request: pb::EvaluateRulesRequest) -> Result<Evaluation> {
    let mut check = Check::default();
    let given = request.detection.unwrap_or_default();
    let change = detection::overrides(&mut check, "detection", given);
    if change == DetectionOverrides::default() && check.is_sound() {
        check.broken("detection", "is required, with one value at least");
    }
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let mut required = |field: &str, given: Option<prost_types::Timestamp>| {
        if given.is_none() {
            check.broken(field, "is required");
        }
        time(&mut check, field, given)
    };
    let start = required("start_time", request.start_time);
    let end = required("end_time", request.end_time);
    if let (Some(start), Some(end)) = (start, end)
        && (end <= start || end - start > LONGEST)
    {
        check.broken("end_time", "must be after start_time, by 31 days at most");
    }
    let warm_up = duration(&mut check, "warm_up", request.warm_up).unwrap_or(WARM_UP);
    if warm_up < Duration::zero() || warm_up > LONGEST {
        check.broken("warm_up", "must be 0s to 31d");
    }
    let user = Some(request.user_id).filter(|text| !text.is_empty());
    let user = user.and_then(|text| check.take("user_id", UserId::parse(&text)));
    let samples = match request.sample_size {
        0 => 20,
        given => usize::try_from(given).map(|size| size.min(100)).unwrap_or_else(|_| {
            check.broken("sample_size", "must not be negative");
            0
        }),
    };
    let (Some(tenant), Some(start), Some(end)) = (tenant, start, end) else {
        return Err(check.failed());
    };
    check.done()?;
    Ok(Evaluation { tenant, user, change, start, end, warm_up, samples })
}

/// The result of an evaluation as a protobuf message.
pub fn to_pb(evaluated: Evaluated) -> pb::EvaluateRulesResponse {
    let counts = |tally: Tally| {
        let Tally { raised, suppressed } = tally;
        Some(pb::EvaluatedCounts { raised, suppressed })
    };
    let Evaluated { rules, samples, activities, complete } = evaluated;
    pb::EvaluateRulesResponse {
        rules: rules
            .into_iter()
            .map(|(rule, current, changed)| pb::RuleEvaluation {
                rule_id: rule.id().to_owned(),
                current: counts(current),
                changed: counts(changed),
            })
            .collect(),
        samples: samples.into_iter().map(incident).collect(),
        activity_count: u64::try_from(activities).unwrap_or(u64::MAX),
        complete,
    }
}

fn incident(Difference { added, finding }: Difference) -> pb::EvaluatedIncident {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let change = match added {
        true => pb::EvaluationChange::Added,
        false => pb::EvaluationChange::Removed,
    };
    pb::EvaluatedIncident {
        change: change.into(),
        rule_id: finding.rule.id().to_owned(),
        user_id: finding.user.map(|user| user.to_string()).unwrap_or_default(),
        session_id: id(finding.session),
        device_id: id(finding.device),
        first_seen_time: Some(to_pb_time(finding.at)),
        description: finding.description,
        evidence: Some(evidence::to_pb(finding.evidence)),
    }
}
