//! The rules of detection.

use crate::alert::rules::RuleState;
use crate::grpc::pb;
use crate::model::alert::RuleCounts;
use crate::model::detection::threshold::Kind;
use crate::model::page::{Page, PageRequest};

/// Cuts a page out of all rules.
pub fn cut(rules: Vec<RuleState>, page: PageRequest<String>) -> Page<RuleState, String> {
    let begin =
        |after: &String| rules.iter().take_while(|rule| position(rule) != *after).count() + 1;
    let begin = page.after.as_ref().map_or(0, begin);
    let follows = rules.len() > begin.saturating_add(page.size);
    let items: Vec<RuleState> = rules.into_iter().skip(begin).take(page.size).collect();
    let next = items.last().filter(|_| follows).map(position);
    Page { items, next }
}

/// The sort key of a rule: its id.
pub fn position(state: &RuleState) -> String {
    state.rule.id().to_owned()
}

/// A rule as a protobuf message.
pub fn rule(state: RuleState) -> pb::Rule {
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
