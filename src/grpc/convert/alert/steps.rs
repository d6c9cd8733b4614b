//! AcknowledgeAlert, ResolveAlert, ReopenAlert and AddAlertNote.

use chrono::Duration;
use prost::Message;

use crate::alert::work::{AlertStep, AlertVerdict, To};
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::time::duration;
use crate::grpc::pb;
use crate::model::alert::Resolution;
use crate::model::ids::TenantId;

/// The default time for which repetitions of a false positive are suppressed.
const SUPPRESS_FOR: Duration = Duration::days(30);
/// The longest such time.
const LONGEST: Duration = Duration::days(365);

/// The fields that the requests have in common.
struct Stated {
    tenant_id: String,
    alert_id: String,
    note: String,
    etag: String,
    request_id: String,
    /// `None` = unchanged; empty = unassigned.
    assignee: Option<String>,
}

/// Checks an acknowledgement.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn acknowledgement(
    mut request: pb::AcknowledgeAlertRequest,
    principal: String,
) -> Result<AlertStep> {
    let request_id = std::mem::take(&mut request.request_id);
    let body = request.clone();
    let pb::AcknowledgeAlertRequest { tenant_id, alert_id, note, etag, assignee, .. } = request;
    let stated = Stated { tenant_id, alert_id, note, etag, request_id, assignee };
    step(Check::default(), "AcknowledgeAlert", &body, stated, Some(To::Acknowledged), principal)
}

/// Checks a reopening.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn reopening(mut request: pb::ReopenAlertRequest, principal: String) -> Result<AlertStep> {
    let request_id = std::mem::take(&mut request.request_id);
    let body = request.clone();
    let pb::ReopenAlertRequest { tenant_id, alert_id, note, etag, assignee, .. } = request;
    let stated = Stated { tenant_id, alert_id, note, etag, request_id, assignee };
    step(Check::default(), "ReopenAlert", &body, stated, Some(To::Reopened), principal)
}

/// Checks a note.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn note(mut request: pb::AddAlertNoteRequest, principal: String) -> Result<AlertStep> {
    let mut check = Check::default();
    let request_id = std::mem::take(&mut request.request_id);
    if request.note.is_empty() && request.assignee.is_none() {
        check.broken("note", "is required unless assignee is set");
    }
    let body = request.clone();
    let pb::AddAlertNoteRequest { tenant_id, alert_id, note, etag, assignee, .. } = request;
    let stated = Stated { tenant_id, alert_id, note, etag, request_id, assignee };
    step(check, "AddAlertNote", &body, stated, Some(To::Noted), principal)
}

/// Checks a resolution.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn resolution(mut request: pb::ResolveAlertRequest, principal: String) -> Result<AlertStep> {
    let mut check = Check::default();
    let request_id = std::mem::take(&mut request.request_id);
    let body = request.clone();
    let to = verdict(&mut check, &request).map(To::Resolved);
    let pb::ResolveAlertRequest { tenant_id, alert_id, note, etag, .. } = request;
    let stated = Stated { tenant_id, alert_id, note, etag, request_id, assignee: None };
    step(check, "ResolveAlert", &body, stated, to, principal)
}

fn verdict(check: &mut Check, request: &pb::ResolveAlertRequest) -> Option<AlertVerdict> {
    let rule = "is required: TRUE_POSITIVE, FALSE_POSITIVE or BENIGN";
    let resolution = Resolution::from_number(request.resolution).ok_or_else(|| rule.to_owned());
    let resolution = check.take("resolution", resolution);
    let stated = duration(check, "suppress_for", request.suppress_for);
    if stated.is_some_and(|time| !(Duration::zero()..=LONGEST).contains(&time)) {
        check.broken("suppress_for", "must be 0 to 365 days");
    }
    if request.suppress_for.is_some() && resolution.is_some_and(|r| r != Resolution::FalsePositive)
    {
        check.broken("suppress_for", "must be unset unless the resolution is FALSE_POSITIVE");
    }
    let ends_sessions = request.terminate_sessions;
    if ends_sessions && resolution.is_some_and(|r| r != Resolution::TruePositive) {
        let rule = "must be false unless the resolution is TRUE_POSITIVE";
        check.broken("terminate_sessions", rule);
    }
    let suppress_for = stated.unwrap_or(SUPPRESS_FOR);
    Some(AlertVerdict { resolution: resolution?, suppress_for, ends_sessions })
}

fn step(
    mut check: Check,
    method: &str,
    body: &impl Message,
    stated: Stated,
    to: Option<To>,
    principal: String,
) -> Result<AlertStep> {
    let request = request_id(&mut check, &principal, method, &stated.request_id, body);
    let tenant = check.take("tenant_id", TenantId::parse(&stated.tenant_id));
    let alert = check.required_uuid("alert_id", &stated.alert_id);
    let note = check.note("note", stated.note, 1000);
    let assignee = stated.assignee.map(|name| check.text("assignee", &name, 128));
    let (Some(tenant), Some(alert), Some(to)) = (tenant, alert, to) else {
        return Err(check.failed());
    };
    check.done()?;
    let revision = Some(stated.etag).filter(|etag| !etag.is_empty());
    Ok(AlertStep { tenant, alert, to, note, assignee, revision, request, principal })
}
