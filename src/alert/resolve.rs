//! ResolveAlert: resolves the alert, and then ends the user's sessions, if requested.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::alert::work::{AlertStep, AlertWorkflow, To, Worked};
use crate::error::Result;
use crate::model::alert::{Alert, AlertState};
use crate::model::session::{EndReason, SessionFilter};
use crate::session::terminate_many::{MassTermination, MassTerminationResult, TerminateMany};

/// Resolves alerts.
pub struct Resolve {
    work: AlertWorkflow,
    terminate: TerminateMany,
}

impl Resolve {
    /// Resolves with `work`, and ends sessions with `terminate`.
    pub fn new(work: AlertWorkflow, terminate: TerminateMany) -> Resolve {
        Resolve { work, terminate }
    }

    /// Takes the step, and ends sessions for at most `time`. A repetition ends what an earlier call
    /// left, but no session that began after the alert was resolved.
    ///
    /// # Errors
    /// As [`AlertWorkflow::step`]. After [`crate::error::Error::Unavailable`] the alert may be
    /// resolved and some sessions ended.
    pub async fn resolve(
        &self,
        step: &AlertStep,
        time: Duration,
    ) -> Result<(Alert, MassTerminationResult)> {
        let begun = Instant::now();
        let Worked { alert, is_new, newest } = self.work.step(step).await?;
        let nothing = MassTerminationResult { complete: true, ..MassTerminationResult::default() };
        let done = match ending(step, &alert, is_new, newest) {
            Some(input) => {
                self.terminate.terminate(&input, time.saturating_sub(begun.elapsed())).await?
            }
            None => nothing,
        };
        Ok((alert, done))
    }
}

/// The sessions to end: none if not requested, or if the alert was reopened since the first call of a repeated request.
fn ending(
    step: &AlertStep,
    alert: &Alert,
    is_new: bool,
    up_to: Option<Uuid>,
) -> Option<MassTermination> {
    let (To::Resolved(verdict), AlertState::Resolved { resolved, .. }) = (step.to, &alert.state)
    else {
        return None;
    };
    let user = alert.user.clone().filter(|_| verdict.ends_sessions)?;
    Some(MassTermination {
        tenant: alert.tenant.clone(),
        filter: SessionFilter {
            user: Some(user),
            created_before: (!is_new && up_to.is_none())
                .then(|| resolved.at + chrono::Duration::microseconds(1)),
            ..SessionFilter::default()
        },
        except: None,
        up_to,
        reason: EndReason::SuspiciousActivity,
        note: Some(format!("alert {}", alert.id)),
        dry_run: false,
        expected_max: None,
        request: None,
        principal: step.principal.clone(),
    })
}
