//! RaiseAlert: what other services found.

use std::collections::BTreeMap;

use chrono::Duration;
use uuid::Uuid;

use crate::alert::read::not_found;
use crate::clock::{Clock, Time};
use crate::error::{Error, Outage, Reason, Result, Violation};
use crate::model::alert::{ActionTaken, Alert, AlertState, Category, Severity, Suppression};
use crate::model::evidence::Evidence;
use crate::model::ids::{TenantId, UserId};
use crate::model::request::{Remembered, RequestId};
use crate::model::session::Session;
use crate::session::incidents::{self, Silences};
use crate::store::changes::Changes;
use crate::store::pool::{Database, Transaction};
use crate::store::{alerts, requests, sessions, users};

/// Raises the alerts of others.
pub struct Raise {
    db: Database,
    clock: Clock,
}

/// What a service found.
pub struct Report {
    pub tenant: TenantId,
    /// `None` = the session's, or nobody in particular.
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
    /// Who calls.
    pub principal: String,
}

impl Raise {
    /// Raises alerts in `db`.
    pub fn new(db: Database, clock: Clock) -> Raise {
        Raise { db, clock }
    }

    /// Raises an alert, or counts up the one whose incident goes on; suppressed, if its like was a false positive.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown session, [`Error::Invalid`] if it is another user's,
    /// [`Error::RequestIdReused`], [`Error::Unavailable`].
    pub async fn raise(&self, report: &Report) -> Result<Alert> {
        let twice = async {
            match self.attempt(report).await {
                // Somebody took the request id meanwhile: now what they did can be read.
                Err(Error::Unavailable(Outage::Raced(_))) => self.attempt(report).await,
                other => other,
            }
        };
        self.db.within(twice).await
    }

    async fn attempt(&self, report: &Report) -> Result<Alert> {
        let mut tx = self.db.begin().await?;
        let now = self.clock.now();
        if let Some(request) = report.request
            && let Some(known) = requests::before(&mut tx, &report.tenant, request, now).await?
        {
            let subject = known.subject.filter(|_| known.request == request);
            let Some(id) = subject else { return Err(tx.refuse(Error::RequestIdReused).await) };
            let found = alerts::find(&mut tx, &report.tenant, id).await?;
            tx.commit().await?;
            return found.ok_or_else(|| not_found(id));
        }
        let session = match self.session(&mut tx, report, now).await {
            Ok(session) => session,
            Err(refusal @ (Error::NotFound { .. } | Error::Invalid(_))) => {
                return Err(tx.refuse(refusal).await);
            }
            Err(error) => return Err(error),
        };
        let mut alert = self.alert(report, session.as_ref(), now);
        let of = (&alert.tenant, alert.user.as_ref());
        if Silences::of(&mut tx, &[of], now).await?.cover(of, &alert.dedup_key, now) {
            alert.suppression = Some(Suppression::FalsePositive);
        }
        let mut changes = Changes::default();
        incidents::raise(&mut tx, &self.clock, vec![alert.clone()], &mut changes).await?;
        // Two reports of no user may meet: the row then says which alert it was.
        let raised = changes.worked.iter().chain(&changes.raised).find(|known| !known.is_over);
        let id = raised.map_or(alert.id, |known| known.id);
        changes.remembered.extend(report.request.map(|request| Remembered {
            tenant: report.tenant.clone(),
            request,
            user: alert.user.clone(),
            subject: Some(id),
            related: Vec::new(),
            at: now,
        }));
        changes.write(&mut tx).await?;
        let stored = alerts::current(&mut tx, &[&alert]).await?;
        let stored = stored.into_iter().next().ok_or_else(|| not_found(id))?;
        if stored.id != id {
            return Err(Error::Unavailable(Outage::Raced("the alert was raised meanwhile".into())));
        }
        tx.commit().await?;
        Ok(stored)
    }

    /// The session concerned, with its user locked: whoever erases them comes before or after.
    async fn session(
        &self,
        tx: &mut Transaction,
        report: &Report,
        now: Time,
    ) -> Result<Option<Session>> {
        let (tenant, user) = (&report.tenant, report.user.as_ref());
        let Some(id) = report.session else {
            if let Some(user) = user {
                users::lock(tx, &[(tenant, user)], now).await?;
            }
            return Ok(None);
        };
        let unknown = || Error::NotFound {
            reason: Reason::SessionNotFound,
            kind: "session.v1.Session",
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

    fn alert(&self, report: &Report, session: Option<&Session>, now: Time) -> Alert {
        Alert {
            id: self.clock.new_id(),
            tenant: report.tenant.clone(),
            user: session.map(|session| session.key.user.clone()).or_else(|| report.user.clone()),
            session: report.session,
            device: report.device.or(session.map(|session| session.device.id)),
            category: report.category,
            severity: report.severity,
            rule_id: report.rule_id.clone(),
            rule_version: 1,
            title: report.title.clone(),
            description: report.description.clone(),
            evidence: Evidence { values: report.values.clone(), typed: None },
            // No other service, and no rule of ours, means the same by the same key.
            dedup_key: format!("reported:{}:{}", report.rule_id, report.dedup_key),
            dedup_until: Some(now + report.window),
            is_over: false,
            suppression: None,
            suppressed_until: None,
            raised_by: report.principal.clone(),
            occurrence_count: 1,
            first_seen_at: now,
            last_seen_at: now,
            action_taken: ActionTaken::None,
            state: AlertState::Open,
            notes: Vec::new(),
            revision: 1,
        }
    }
}
