//! The rules of detection.

use crate::alert::rules::RuleState;
use crate::clock::Time;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::to_pb as time;
use crate::grpc::pb;
use crate::model::alert::RuleCounts;
use crate::model::detection::threshold::Kind;
use crate::model::ids::TenantId;

/// Whose rules to list.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn tenant(request: &pb::ListRulesRequest) -> Result<TenantId> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    tenant.ok_or_else(|| check.failed())
}

/// The rules as the protocol writes them.
pub fn to_pb((rules, since): (Vec<RuleState>, Time)) -> pb::ListRulesResponse {
    pb::ListRulesResponse {
        rules: rules.into_iter().map(rule).collect(),
        counted_since_time: Some(time(since)),
    }
}

fn rule(state: RuleState) -> pb::Rule {
    let RuleState { rule, settings, counts } = state;
    let about = rule.about();
    let RuleCounts { raised, suppressed, unresolved, true_positives, false_positives } = counts;
    pb::Rule {
        rule_id: about.id.to_owned(),
        rule_version: u32::try_from(about.version).unwrap_or(0),
        title: about.title.to_owned(),
        description: about.finds.to_owned(),
        category: i32::from(about.category as i16),
        severity: i32::from(about.severity as i16),
        mode: i32::from(settings.mode as i16),
        action: i32::from(settings.action as i16),
        thresholds: rule
            .thresholds()
            .iter()
            .map(|one| pb::RuleThreshold {
                name: one.name.to_owned(),
                value: settings.get(one.kind),
                unit: unit(one.kind).into(),
                min_value: one.min,
                max_value: one.max,
            })
            .collect(),
        counts: Some(pb::RuleCounts {
            raised,
            suppressed,
            unresolved,
            true_positives,
            false_positives,
        }),
    }
}

fn unit(kind: Kind) -> pb::ThresholdUnit {
    match kind {
        Kind::Count => pb::ThresholdUnit::Count,
        Kind::Within => pb::ThresholdUnit::Seconds,
        Kind::Speed => pb::ThresholdUnit::KilometresPerHour,
        Kind::Distance | Kind::Accuracy => pb::ThresholdUnit::Kilometres,
    }
}
