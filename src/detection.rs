//! What looks wrong: pure rules over the activities of a user and of a network. No I/O, no clock.
//!
//! An activity is shown to each rule in turn, together with what is remembered of its user and of the
//! network it came from. A rule looks, and then remembers what it will need.

pub mod memory;
mod rules;
#[cfg(test)]
mod samples;

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::alert::{Category, Evidence, Severity, Suppression};
use crate::model::detection::{DetectionSettings, Mode};
use crate::model::ids::{TenantId, UserId};
use memory::{NetworkMemory, UserMemory};
use rules::{failed_logins, failed_logins_network, impossible_travel, new_country, rapid_creation};

/// Something that a rule found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub tenant: TenantId,
    /// `None` for a finding about a network.
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    pub device: Option<Uuid>,
    /// When what was found happened.
    pub at: Time,
    /// Such as `impossible_travel`.
    pub rule_id: &'static str,
    pub rule_version: i32,
    pub category: Category,
    pub severity: Severity,
    pub title: String,
    pub description: String,
    pub evidence: Evidence,
    /// Unique by user and incident: a repetition within `window` of the last is the same incident.
    pub dedup_key: String,
    pub window: Duration,
    /// Why nobody is to be told; `None` = somebody is.
    pub suppression: Option<Suppression>,
}

/// What else a rule must know of an activity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// The device of the activity is one that the user trusts.
    pub device_is_trusted: bool,
}

/// Shows an activity to the rules. Activities of a user come in the order in which they happened; each once.
pub fn observe(
    activity: &Activity,
    context: Context,
    settings: &DetectionSettings,
    user: &mut UserMemory,
    network: &mut NetworkMemory,
) -> Vec<Finding> {
    let first_at = *user.first_at.get_or_insert(activity.occurred_at);
    let learning = activity.occurred_at < first_at + settings.learning_period;
    let trusted = context.device_is_trusted.then_some(Suppression::TrustedDevice);
    // Countries are habits, which have to be learnt first; nobody has a habit of impossible travel.
    let unfamiliar = trusted.or(learning.then_some(Suppression::LearningPeriod));
    let unless = |why, mode, finding| told(mode, finding, why, activity, settings);
    let of_count = |mode, finding| unless(None, mode, finding);
    let found = [
        unless(unfamiliar, settings.new_country.mode, new_country::look(activity, settings, user)),
        unless(
            trusted,
            settings.impossible_travel.mode,
            impossible_travel::look(activity, settings, user),
        ),
        of_count(settings.failed_logins.mode, failed_logins::look(activity, settings, user)),
        of_count(settings.rapid_creation.mode, rapid_creation::look(activity, settings, user)),
        of_count(
            settings.failed_logins_network.mode,
            failed_logins_network::look(activity, settings, network),
        ),
    ];
    found.into_iter().flatten().collect()
}

/// The finding as the mode of its rule wants it; `why` suppresses it.
fn told(
    mode: Mode,
    finding: Option<Finding>,
    why: Option<Suppression>,
    activity: &Activity,
    settings: &DetectionSettings,
) -> Option<Finding> {
    let from_trusted =
        activity.ip.is_some_and(|ip| settings.trusted_networks.iter().any(|net| net.contains(&ip)));
    let suppression = match mode {
        Mode::Off => return None,
        Mode::Shadow => Some(Suppression::Shadow),
        Mode::Alert if from_trusted => Some(Suppression::ConfiguredNetwork),
        Mode::Alert => why,
    };
    finding.map(|finding| Finding { suppression, ..finding })
}
