//! AcknowledgeAlert, ResolveAlert, ReopenAlert and AddAlertNote: steps of the workflow, each with
//! its principal, time and note.

use chrono::Duration;
use uuid::Uuid;

use crate::alert::read::not_found;
use crate::clock::{Clock, Time};
use crate::error::{Error, Reason, Result};
use crate::model::activity::ActivityKind;
use crate::model::alert::{Alert, AlertState, Attribution, MAX_NOTES, Note, Resolution};
use crate::model::ids::TenantId;
use crate::model::request::{RecordedRequest, RequestId};
use crate::session::mutation::{self, Mutation};
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{alerts, sessions};

/// Moves alerts through their workflow.
pub struct AlertWorkflow {
    db: Database,
    clock: Clock,
}

/// One step with one alert.
pub struct AlertStep {
    pub tenant: TenantId,
    pub alert: Uuid,
    pub to: To,
    /// At most 1000 characters.
    pub note: Option<String>,
    /// The new assignee, `Some(None)` = none; the outer `None` leaves it unchanged.
    pub assignee: Option<Option<String>>,
    /// The revision that the caller read, if the step depends on it.
    pub revision: Option<String>,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

/// The target of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// From open.
    Acknowledged,
    /// From open or acknowledged.
    Resolved(AlertVerdict),
    /// Open again, from resolved.
    Reopened,
    /// The same state, with a note.
    Noted,
}

/// The verdict on an alert, and its effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertVerdict {
    pub resolution: Resolution,
    /// How long matching findings are suppressed after a false positive: 0 to 365 days.
    pub suppress_for: Duration,
    /// Whether the user's sessions end; only of a true positive.
    pub ends_sessions: bool,
}

/// The result of a step.
pub struct Worked {
    /// After the step.
    pub alert: Alert,
    /// False if the alert was in that state already.
    pub is_new: bool,
    /// In a repetition of a request that resolved the alert and ends sessions: the newest session to end.
    pub newest: Option<Uuid>,
}

impl AlertWorkflow {
    /// Works on alerts of `db`.
    pub fn new(db: Database, clock: Clock) -> AlertWorkflow {
        AlertWorkflow { db, clock }
    }

    /// Takes the step. An alert that is in the target state already is returned unchanged.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::EtagMismatch`], [`Error::Precondition`] for a step the
    /// workflow does not have, for a note that there is no room for, or for ending
    /// sessions without a user, [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn step(&self, step: &AlertStep) -> Result<Worked> {
        Ok(mutation::run(&self.db, &self.clock, self, step).await?.answer)
    }
}

impl Mutation<AlertStep> for AlertWorkflow {
    type Locked = Alert;
    type Answer = Worked;

    fn request(step: &AlertStep) -> Option<(&TenantId, RequestId)> {
        Some((&step.tenant, step.request?))
    }

    async fn lock(&self, tx: &mut Transaction, step: &AlertStep) -> Result<Alert> {
        alerts::lock(tx, &step.tenant, step.alert).await?.ok_or_else(|| not_found(step.alert))
    }

    async fn repeat(
        &self,
        _: &mut Transaction,
        _: &AlertStep,
        alert: Alert,
        known: RecordedRequest,
        _: Time,
    ) -> Result<Worked> {
        Ok(Worked { alert, is_new: false, newest: known.newest() })
    }

    async fn decide(
        &self,
        tx: &mut Transaction,
        step: &AlertStep,
        mut alert: Alert,
        changes: &mut Changes,
    ) -> Result<Worked> {
        if step.revision.as_ref().is_some_and(|seen| *seen != alert.revision.to_string()) {
            return Err(Error::EtagMismatch);
        }
        let now = changes.at();
        let next = has_room(&alert, step, judge(&alert, step.to, &step.principal, now)?)?;
        let is_new = next.is_some();
        if let Some(state) = next {
            alert.state = state;
            if step.to != To::Noted {
                alert.suppressed_until = step.to.suppressed_until(now);
            }
            if let Some(assignee) = &step.assignee {
                alert.assignee.clone_from(assignee);
            }
            alert.revision += 1;
            alert.notes.extend(step.note.clone().map(|text| Note {
                text,
                by: step.principal.clone(),
                at: now,
            }));
            changes.step_alert(alert.clone(), step.to.activity(), &step.principal);
        }
        let newest = match (step.to, &alert.user) {
            (To::Resolved(AlertVerdict { ends_sessions: true, .. }), Some(user)) if is_new => {
                sessions::newest_live(tx, &alert.tenant, user).await?
            }
            _ => None,
        };
        changes.record_request_of_alert(step.request, &alert, newest);
        Ok(Worked { alert, is_new, newest: None })
    }
}

impl To {
    fn activity(self) -> ActivityKind {
        match self {
            To::Acknowledged => ActivityKind::AlertAcknowledged,
            To::Resolved(_) => ActivityKind::AlertResolved,
            To::Reopened => ActivityKind::AlertReopened,
            To::Noted => ActivityKind::AlertNoted,
        }
    }

    /// Until when findings that match the alert are suppressed by a step at `now`.
    fn suppressed_until(self, now: Time) -> Option<Time> {
        match self {
            To::Resolved(AlertVerdict {
                resolution: Resolution::FalsePositive,
                suppress_for,
                ..
            }) => Some(now + suppress_for).filter(|until| *until > now),
            _ => None,
        }
    }
}

/// The state after the step; `None` if the alert is in it already. Pure.
fn judge(alert: &Alert, to: To, by: &str, at: Time) -> Result<Option<AlertState>> {
    if matches!(to, To::Resolved(verdict) if verdict.ends_sessions) && alert.user.is_none() {
        return Err(Error::Precondition {
            reason: Reason::AlertWithoutUser,
            message: "the alert concerns no single user, so there are no sessions to end"
                .to_owned(),
            metadata: Vec::new(),
        });
    }
    let mark = Attribution { by: by.to_owned(), at };
    Ok(match (&alert.state, to) {
        (state, To::Noted) => Some(state.clone()),
        (AlertState::Open, To::Acknowledged) => Some(AlertState::Acknowledged(mark)),
        (AlertState::Acknowledged(_), To::Acknowledged) | (AlertState::Open, To::Reopened) => None,
        (AlertState::Open, To::Resolved(AlertVerdict { resolution, .. })) => {
            Some(AlertState::Resolved { acknowledged: None, resolved: mark, resolution })
        }
        (AlertState::Acknowledged(by), To::Resolved(AlertVerdict { resolution, .. })) => {
            let acknowledged = Some(by.clone());
            Some(AlertState::Resolved { acknowledged, resolved: mark, resolution })
        }
        (AlertState::Resolved { resolution, .. }, To::Resolved(verdict))
            if *resolution == verdict.resolution =>
        {
            None
        }
        (AlertState::Resolved { .. }, To::Reopened) => Some(AlertState::Open),
        (AlertState::Resolved { .. }, _) => return Err(wrong_state("RESOLVED")),
        (AlertState::Acknowledged(_), To::Reopened) => return Err(wrong_state("ACKNOWLEDGED")),
    })
}

/// Returns the step, unless the alert has no room for its note.
fn has_room(
    alert: &Alert,
    step: &AlertStep,
    next: Option<AlertState>,
) -> Result<Option<AlertState>> {
    if next.is_some() && step.note.is_some() && alert.notes.len() >= MAX_NOTES {
        return Err(Error::Precondition {
            reason: Reason::AlertNotesFull,
            message: format!("the alert has {MAX_NOTES} notes and takes no more; step without one"),
            metadata: vec![("max", MAX_NOTES.to_string())],
        });
    }
    Ok(next)
}

fn wrong_state(state: &'static str) -> Error {
    Error::Precondition {
        reason: Reason::AlertStateInvalid,
        message: format!("the alert is {}", state.to_lowercase()),
        metadata: vec![("state", state.to_owned())],
    }
}
