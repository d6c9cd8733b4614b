//! AcknowledgeAlert and ResolveAlert: steps of the workflow, each with who, when and a note.

use uuid::Uuid;

use crate::alert::read::not_found;
use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Reason, Result};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::alert::{Alert, AlertState, Mark, Note, Resolution};
use crate::model::ids::TenantId;
use crate::model::request::{Remembered, RequestId};
use crate::store::changes::Changes;
use crate::store::pool::Database;
use crate::store::{alerts, requests};

/// Moves alerts through their workflow.
pub struct Work {
    db: Database,
    clock: Clock,
}

/// One step with one alert.
pub struct Step {
    pub tenant: TenantId,
    pub alert: Uuid,
    pub to: To,
    /// At most 1000 characters.
    pub note: Option<String>,
    /// The revision the caller saw, if it matters to them.
    pub revision: Option<String>,
    pub request: Option<RequestId>,
    /// Who calls.
    pub principal: String,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// From open.
    Acknowledged,
    /// From open or acknowledged.
    Resolved(Resolution),
}

impl Work {
    /// Works on alerts of `db`.
    pub fn new(db: Database, clock: Clock) -> Work {
        Work { db, clock }
    }

    /// Takes the step. An alert that is there already is returned unchanged.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::EtagMismatch`], [`Error::Precondition`] for a step the
    /// workflow does not have, [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn step(&self, step: &Step) -> Result<Alert> {
        let twice = async {
            match self.attempt(step).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(step).await,
                other => other,
            }
        };
        self.db.within(twice).await
    }

    async fn attempt(&self, step: &Step) -> Result<Alert> {
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        let found = alerts::lock(&mut tx, &step.tenant, step.alert).await?;
        if let Some(request) = step.request {
            let known = requests::find(&mut tx, &[(&step.tenant, request.id)]).await?;
            if let Some(known) = known.into_iter().find(|known| known.holds_at(now)) {
                tx.commit().await?;
                return match found {
                    Some(alert) if known.request == request => Ok(alert),
                    _ => Err(Error::RequestIdReused),
                };
            }
        }
        let Some(mut alert) = found else { return Err(tx.refuse(not_found(step.alert)).await) };
        if step.revision.as_ref().is_some_and(|seen| *seen != alert.revision.to_string()) {
            return Err(tx.refuse(Error::EtagMismatch).await);
        }
        let mut changes = Changes::default();
        if let Some(state) = advance(&alert.state, step.to, &step.principal, now)? {
            alert.state = state;
            alert.revision += 1;
            alert.notes.extend(step.note.clone().map(|text| Note {
                text,
                by: step.principal.clone(),
                at: now,
            }));
            let kind = match step.to {
                To::Acknowledged => ActivityKind::AlertAcknowledged,
                To::Resolved(_) => ActivityKind::AlertResolved,
            };
            let id = self.clock.new_id();
            changes.activities.push(Activity::of_alert(id, now, kind, &step.principal, &alert));
            changes.worked.push(alert.clone());
        }
        changes.remembered.extend(step.request.map(|request| Remembered {
            tenant: step.tenant.clone(),
            request,
            user: alert.user.clone(),
            subject: Some(alert.id),
            related: Vec::new(),
            at: now,
        }));
        if !changes.is_empty() {
            changes.write(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(alert)
    }
}

/// The state after the step; `None` if it is there already. Pure.
fn advance(from: &AlertState, to: To, by: &str, at: Time) -> Result<Option<AlertState>> {
    let mark = Mark { by: by.to_owned(), at };
    Ok(match (from, to) {
        (AlertState::Open, To::Acknowledged) => Some(AlertState::Acknowledged(mark)),
        (AlertState::Acknowledged(_), To::Acknowledged) => None,
        (AlertState::Open, To::Resolved(resolution)) => {
            Some(AlertState::Resolved { acknowledged: None, resolved: mark, resolution })
        }
        (AlertState::Acknowledged(by), To::Resolved(resolution)) => Some(AlertState::Resolved {
            acknowledged: Some(by.clone()),
            resolved: mark,
            resolution,
        }),
        (AlertState::Resolved { resolution, .. }, To::Resolved(asked)) if *resolution == asked => {
            None
        }
        (AlertState::Resolved { .. }, _) => {
            return Err(Error::Precondition {
                reason: Reason::AlertStateInvalid,
                message: "the alert is resolved".to_owned(),
                metadata: vec![("state", "RESOLVED".to_owned())],
            });
        }
    })
}
