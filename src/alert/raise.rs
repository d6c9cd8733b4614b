//! RaiseAlert: alerts of other services.

use std::collections::BTreeMap;

use chrono::Duration;
use uuid::Uuid;

use crate::alert::read::not_found;
use crate::clock::{Clock, Time};
use crate::error::{Error, Reason, Result, Violation};
use crate::model::alert::{Alert, Category, Severity, Suppression};
use crate::model::evidence::Evidence;
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{RecordedRequest, RequestId};
use crate::model::session::Session;
use crate::session::incidents::{self, Silences};
use crate::session::mutation::{self, Mutation};
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{alerts, sessions, users};

/// Raises alerts that other services report.
pub struct Raise {
    db: Database,
    clock: Clock,
}

/// The report of a service.
pub struct AlertReport {
    pub tenant: TenantId,
    /// `None` = the user of the session, or none.
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    pub device: Option<Uuid>,
    pub category: Category,
    pub severity: Severity,
    /// Not one of this service's own: at most 64 characters.
    pub rule_id: String,
    /// 1 to 200 characters.
    pub title: String,
    /// At most 2000 characters.
    pub description: String,
    /// Up to 32 entries and 4096 bytes.
    pub values: BTreeMap<String, String>,
    /// 1 to 200 characters: within the window the same incident.
    pub dedup_key: String,
    pub window: Duration,
    pub request: Option<RequestId>,
    /// The calling principal.
    pub principal: String,
}

impl Raise {
    /// Raises alerts in `db`.
    pub fn new(db: Database, clock: Clock) -> Raise {
        Raise { db, clock }
    }

    /// Raises an alert, or increments the count of its open incident; suppressed, if an earlier false positive matches.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown session, [`Error::Invalid`] if it is another user's,
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn raise(&self, report: &AlertReport) -> Result<Alert> {
        Ok(mutation::run(&self.db, &self.clock, self, report).await?.answer)
    }

    /// The session concerned. Its user is locked, so that an erasure commits before or after.
    /// Reports without a user are serialized by their key.
    async fn session(
        &self,
        tx: &mut Transaction,
        report: &AlertReport,
        now: Time,
    ) -> Result<Option<Session>> {
        let (tenant, user) = (&report.tenant, report.user.as_ref());
        let Some(id) = report.session else {
            match user {
                Some(user) => users::lock(tx, &[(tenant, user)], now).await?,
                None => alerts::lock_key(tx, tenant, &dedup_key(report)).await?,
            }
            return Ok(None);
        };
        let unknown = || Error::NotFound {
            reason: Reason::SessionNotFound,
            kind: "sessiond.v1.Session",
            name: id.to_string(),
        };
        let named = sessions::find_by_id(tx, tenant, id).await?.ok_or_else(unknown)?;
        let owner = &named.key.user;
        if user.is_some_and(|user| user != owner) {
            let rule = "must be the user of session_id, or empty".to_owned();
            return Err(Error::Invalid(vec![Violation { field: "user_id".to_owned(), rule }]));
        }
        users::lock(tx, &[(tenant, owner)], now).await?;
        Ok(Some(sessions::find_by_id(tx, tenant, id).await?.ok_or_else(unknown)?))
    }

    fn alert(&self, report: &AlertReport, session: Option<&Session>, now: Time) -> Alert {
        let (tenant, rule) = (report.tenant.clone(), (report.rule_id.as_str(), 1));
        let kind = (report.category, report.severity);
        Alert {
            user: session.map(|session| session.key.user.clone()).or_else(|| report.user.clone()),
            session: report.session,
            device: report.device.or(session.map(|session| session.device.id)),
            title: report.title.clone(),
            description: report.description.clone(),
            evidence: Evidence { values: report.values.clone(), typed: None },
            dedup_key: dedup_key(report),
            dedup_until: Some(now + report.window),
            raised_by: report.principal.clone(),
            ..Alert::opened(self.clock.new_id(), tenant, now, rule, kind)
        }
    }
}

impl Mutation<AlertReport> for Raise {
    type Locked = Option<Session>;
    type Answer = Alert;

    fn request(report: &AlertReport) -> Option<(&TenantId, RequestId)> {
        Some((&report.tenant, report.request?))
    }

    async fn lock(&self, tx: &mut Transaction, report: &AlertReport) -> Result<Option<Session>> {
        self.session(tx, report, self.clock.now()).await
    }

    async fn repeat(
        &self,
        tx: &mut Transaction,
        report: &AlertReport,
        _: Option<Session>,
        known: RecordedRequest,
        _: Time,
    ) -> Result<Alert> {
        let id = known.subject.ok_or(Error::RequestIdReused)?;
        alerts::find(tx, &report.tenant, id).await?.ok_or_else(|| not_found(id))
    }

    async fn decide(
        &self,
        tx: &mut Transaction,
        report: &AlertReport,
        session: Option<Session>,
        changes: &mut Changes,
    ) -> Result<Alert> {
        let now = changes.at();
        let mut alert = self.alert(report, session.as_ref(), now);
        let of = (&alert.tenant, alert.user.as_ref());
        if Silences::of(tx, &[of], now).await?.cover(of, &alert.dedup_key, now) {
            alert.suppression = Some(Suppression::FalsePositive);
        }
        incidents::raise(tx, vec![alert.clone()], changes).await?;
        let incident = changes.open_incidents().next().cloned();
        let incident = incident.ok_or_else(|| anyhow::anyhow!("what is raised goes on"))?;
        changes.record_request_of_alert(report.request, &incident, None);
        Ok(incident)
    }
}

/// Distinct from the keys of other services and of the built-in rules.
fn dedup_key(report: &AlertReport) -> String {
    format!("reported:{}:{}", report.rule_id, report.dedup_key)
}
