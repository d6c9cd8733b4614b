//! A security alert and its workflow: OPEN, ACKNOWLEDGED, RESOLVED.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::SYSTEM;
use crate::model::evidence::Evidence;
use crate::model::ids::{TenantId, UserId};

/// One incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// UUIDv7, made here.
    pub id: Uuid,
    pub tenant: TenantId,
    /// `None` for an incident of no single user.
    pub user: Option<UserId>,
    /// The session concerned; `None` = none in particular.
    pub session: Option<Uuid>,
    /// The device concerned; `None` = none in particular.
    pub device: Option<Uuid>,
    pub category: Category,
    pub severity: Severity,
    /// The rule that found it: at most 64 characters, such as `refresh_reuse`.
    pub rule_id: String,
    /// From 1.
    pub rule_version: i32,
    /// One line for a list.
    pub title: String,
    /// What was found and what it means, in sentences.
    pub description: String,
    pub evidence: Evidence,
    /// One alert per user, key and incident; a repetition counts it up.
    pub dedup_key: String,
    /// Until when a repetition belongs to this incident; `None` = for ever.
    pub dedup_until: Option<Time>,
    /// True once another incident may take the key.
    pub is_over: bool,
    /// Why the alert is suppressed; `None` = it is raised.
    pub suppression: Option<Suppression>,
    /// Until when repetitions are suppressed, once it was resolved as a false positive.
    pub suppressed_until: Option<Time>,
    /// A calling principal, or [`crate::model::activity::SYSTEM`].
    pub raised_by: String,
    /// How often it was found: 1 or more.
    pub occurrence_count: i32,
    pub first_seen_at: Time,
    pub last_seen_at: Time,
    /// In the same commit as the alert.
    pub action_taken: ActionTaken,
    pub state: AlertState,
    /// The assignee: 1 to 128 characters; `None` = not assigned.
    pub assignee: Option<String>,
    /// Oldest first, at most [`MAX_NOTES`].
    pub notes: Vec<Note>,
    /// Counts changes; the etag.
    pub revision: i32,
}

impl Alert {
    /// An open alert of `rule` (its id and version) that this service raises for the first time at `now`, about no
    /// user, session or device. The caller sets the other fields.
    pub fn opened(
        id: Uuid,
        tenant: TenantId,
        now: Time,
        (rule, version): (&str, i32),
        (category, severity): (Category, Severity),
    ) -> Alert {
        Alert {
            id,
            tenant,
            user: None,
            session: None,
            device: None,
            category,
            severity,
            rule_id: rule.to_owned(),
            rule_version: version,
            title: String::new(),
            description: String::new(),
            evidence: Evidence::default(),
            dedup_key: String::new(),
            dedup_until: None,
            is_over: false,
            suppression: None,
            suppressed_until: None,
            raised_by: SYSTEM.to_owned(),
            occurrence_count: 1,
            first_seen_at: now,
            last_seen_at: now,
            action_taken: ActionTaken::None,
            state: AlertState::Open,
            assignee: None,
            notes: Vec::new(),
            revision: 1,
        }
    }
}

/// The state of an alert. Actors and times are in the states that have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertState {
    /// Nobody works on it yet.
    Open,
    /// Somebody works on it.
    Acknowledged(Attribution),
    /// Closed, perhaps without having been acknowledged.
    Resolved { acknowledged: Option<Attribution>, resolved: Attribution, resolution: Resolution },
}

impl AlertState {
    /// The number of the state in the database and in the protocol.
    pub fn number(&self) -> i16 {
        match self {
            AlertState::Open => 1,
            AlertState::Acknowledged(_) => 2,
            AlertState::Resolved { .. } => 3,
        }
    }
}

/// An actor and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The calling principal.
    pub by: String,
    pub at: Time,
}

/// A remark in the alert's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// 1 to 1000 characters.
    pub text: String,
    /// The calling principal.
    pub by: String,
    pub at: Time,
}

/// The most notes that an alert has. An alert with so many accepts no further note.
pub const MAX_NOTES: usize = 100;

/// The rules outside detection: their finding breaks a guarantee, and the response is in the same commit.
pub const INVARIANTS: [&str; 2] = [REFRESH_REUSE, DATA_REGRESSION];
/// A refresh token was replayed.
pub const REFRESH_REUSE: &str = "refresh_reuse";
/// A refresh token was of a later generation than the row.
pub const DATA_REGRESSION: &str = "data_regression";

numbered! {
    /// What kind of threat.
    Category {
        TokenTheft = 1, SessionHijack = 2, AccountTakeover = 3, BruteForce = 4,
        CredentialStuffing = 5, AnomalousLocation = 6, NewDevice = 7, Concurrency = 8,
        PolicyViolation = 9, DataIntegrity = 10, Other = 11,
    }
}
numbered! {
    /// How bad, in ascending order.
    Severity { Info = 1, Low = 2, Medium = 3, High = 4, Critical = 5 }
}
numbered! {
    /// What an investigation found.
    Resolution { TruePositive = 1, FalsePositive = 2, Benign = 3 }
}
numbered! {
    /// The response of the service itself.
    ActionTaken { None = 1, SessionTerminated = 2, StepUpRequired = 3 }
}

numbered! {
    /// Why a finding is stored but raises no alert.
    Suppression {
        Shadow = 1, TrustedDevice = 2, ConfiguredNetwork = 3, LearningPeriod = 4, FalsePositive = 5,
    }
}

/// The outcomes of the incidents that a rule found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCounts {
    /// Raised.
    pub raised: u32,
    /// Suppressed.
    pub suppressed: u32,
    /// Of those raised.
    pub unresolved: u32,
    /// Of those raised.
    pub true_positives: u32,
    /// Of those raised.
    pub false_positives: u32,
}

/// Which alerts a list shows. Empty shows all of the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertFilter {
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    /// One of them; empty = all.
    pub categories: Vec<Category>,
    pub minimum_severity: Option<Severity>,
    /// 1 open, 2 acknowledged, 3 resolved: one of them; empty = all.
    pub states: Vec<i16>,
    pub rule_id: Option<String>,
    /// Inclusive.
    pub last_seen_after: Option<Time>,
    /// Exclusive.
    pub last_seen_before: Option<Time>,
    /// Whether they are suppressed; `None` = either.
    pub suppressed: Option<bool>,
    pub assignee: Option<String>,
}

/// Those that are not suppressed.
impl Default for AlertFilter {
    fn default() -> AlertFilter {
        AlertFilter {
            user: None,
            session: None,
            categories: Vec::new(),
            minimum_severity: None,
            states: Vec::new(),
            rule_id: None,
            last_seen_after: None,
            last_seen_before: None,
            suppressed: Some(false),
            assignee: None,
        }
    }
}

impl AlertFilter {
    /// True for an alert that the list would show.
    pub fn matches(&self, alert: &Alert) -> bool {
        fn fits<T: PartialEq>(wanted: Option<&T>, given: Option<&T>) -> bool {
            wanted.is_none() || wanted == given
        }
        fn is_one<T: PartialEq>(wanted: &[T], given: &T) -> bool {
            wanted.is_empty() || wanted.contains(given)
        }
        fits(self.suppressed.as_ref(), Some(&alert.suppression.is_some()))
            && fits(self.user.as_ref(), alert.user.as_ref())
            && fits(self.session.as_ref(), alert.session.as_ref())
            && is_one(&self.categories, &alert.category)
            && self.minimum_severity.is_none_or(|least| alert.severity as i16 >= least as i16)
            && is_one(&self.states, &alert.state.number())
            && fits(self.rule_id.as_ref(), Some(&alert.rule_id))
            && fits(self.assignee.as_ref(), alert.assignee.as_ref())
            && self.last_seen_after.is_none_or(|after| alert.last_seen_at >= after)
            && self.last_seen_before.is_none_or(|before| alert.last_seen_at < before)
    }
}
