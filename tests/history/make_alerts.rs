//! Calls about alerts.

use sessiond::grpc::pb;

use crate::call::{Body, Call};
use crate::directory::Directory;
use crate::record::{Step, What};
use crate::rng::Rng;
use crate::users::{TENANTS, USERS};

/// A report about a session, or about the user alone, with few keys, so that reports share incidents.
pub fn raise(who: usize, directory: &Directory, rng: &mut Rng) -> Call {
    let session = directory.session(who, rng).filter(|_| rng.chance(50));
    let key = format!("k{}", rng.below(40));
    let body = Body::Raise(pb::RaiseAlertRequest {
        tenant_id: USERS[who].tenant.to_owned(),
        user_id: USERS[who].name.to_owned(),
        session_id: session.map(|session| session.id.to_string()).unwrap_or_default(),
        category: pb::Category::Other.into(),
        severity: pb::Severity::Low.into(),
        rule_id: "history".to_owned(),
        title: "Seen by a test".to_owned(),
        dedup_key: key.clone(),
        dedup_window: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    });
    Call::new(who, What::Raise { key }, body)
}

pub fn step(tenant: usize, directory: &Directory, rng: &mut Rng) -> Option<Call> {
    let (who, alert) = directory.alert(tenant, rng)?;
    let (tenant_id, alert_id) = (TENANTS[tenant].to_owned(), alert.to_string());
    let (step, body) = match rng.below(4) {
        0 | 1 => {
            let message = pb::AcknowledgeAlertRequest { tenant_id, alert_id, ..Default::default() };
            (Step::Acknowledge, Body::Acknowledge(message))
        }
        2 => {
            let terminate_sessions = rng.chance(30);
            let resolution = match terminate_sessions {
                true => pb::Resolution::TruePositive,
                false => pb::Resolution::Benign,
            };
            let message = pb::ResolveAlertRequest {
                tenant_id,
                alert_id,
                resolution: resolution.into(),
                terminate_sessions,
                ..Default::default()
            };
            (Step::Resolve(terminate_sessions), Body::Resolve(message))
        }
        _ => {
            let message = pb::ReopenAlertRequest { tenant_id, alert_id, ..Default::default() };
            (Step::Reopen, Body::Reopen(message))
        }
    };
    Some(Call::new(who, What::Step { alert, step }, body))
}
