//! RaiseAlert.

use chrono::Duration;

use crate::alert::raise::AlertReport;
use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::time::duration;
use crate::grpc::pb;
use crate::model::alert::{Category, INVARIANTS, Severity};
use crate::model::detection::rule::Rule;
use crate::model::ids::{TenantId, UserId, text_of};

/// The default window for deduplication.
const WINDOW: Duration = Duration::hours(24);
const SHORTEST: Duration = Duration::minutes(1);
const LONGEST: Duration = Duration::days(30);

/// Checks the report of another service.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn report(mut request: pb::RaiseAlertRequest, principal: String) -> Result<AlertReport> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "RaiseAlert", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = Some(request.user_id).filter(|text| !text.is_empty());
    let user = user.and_then(|text| check.take("user_id", UserId::parse(&text)));
    let session = check.uuid("session_id", &request.session_id);
    let device = check.uuid("device_id", &request.device_id);
    if device.is_some() && user.is_none() && session.is_none() {
        check.broken("device_id", "must be empty without user_id or session_id");
    }
    let category = Category::from_number(request.category);
    let category = check.take("category", category.ok_or_else(|| "is required".to_owned()));
    let severity = Severity::from_number(request.severity);
    let severity = check.take("severity", severity.ok_or_else(|| "is required".to_owned()));
    let rule_id = check.take("rule_id", rule_id(request.rule_id));
    let title = check.take("title", text_of(&request.title, 1, 200));
    let description = check.note("description", request.description, 2000).unwrap_or_default();
    check.entries("values", &request.values);
    let dedup_key = check.take("dedup_key", text_of(&request.dedup_key, 1, 200));
    let window = duration(&mut check, "dedup_window", request.dedup_window).unwrap_or(WINDOW);
    if !(SHORTEST..=LONGEST).contains(&window) {
        check.broken("dedup_window", "must be 1 minute to 30 days");
    }
    let (Some(tenant), Some(category), Some(severity), Some(rule_id), Some(title), Some(dedup_key)) =
        (tenant, category, severity, rule_id, title, dedup_key)
    else {
        return Err(check.failed());
    };
    check.done()?;
    Ok(AlertReport {
        tenant,
        user,
        session,
        device,
        category,
        severity,
        rule_id,
        title,
        description,
        values: request.values,
        dedup_key,
        window,
        request: remember,
        principal,
    })
}

fn rule_id(text: String) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        return Err("must be 1 to 64 characters of a-z 0-9 _".to_owned());
    }
    if Rule::ALL.iter().any(|rule| rule.id() == text) || INVARIANTS.contains(&text.as_str()) {
        return Err("must not be a rule of this service".to_owned());
    }
    Ok(text)
}
