//! WatchRevocations: request and response.

use std::time::Duration;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::{duration, to_pb};
use crate::grpc::pb;
use crate::model::ids::TenantId;
use crate::model::revocation::{ALL, Revocation, Subject};
use crate::session::watch_revocations::RevocationMessage;
use crate::token::cursor::MAX_LEN;

/// The default interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Checks a request: the tenant, the cursor and the interval of heartbeats.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn watch(request: pb::WatchRevocationsRequest) -> Result<(TenantId, String, Duration)> {
    let mut check = Check::default();
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    if request.cursor.len() > MAX_LEN {
        check.broken("cursor", format!("must be at most {MAX_LEN} characters"));
    }
    let field = "heartbeat_interval";
    let stated = duration(&mut check, field, request.heartbeat_interval);
    let fits = |interval: &Duration| {
        (Duration::from_millis(100)..=Duration::from_secs(60)).contains(interval)
    };
    let interval = stated.map(|interval| interval.to_std().unwrap_or_default());
    if interval.is_some_and(|interval| !fits(&interval)) {
        check.broken(field, "must be from 100 ms to 60 s");
    }
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok((tenant, request.cursor, interval.unwrap_or(HEARTBEAT)))
}

/// A message of the stream.
pub fn to_pb_message(message: RevocationMessage, cursor: String) -> pb::WatchRevocationsResponse {
    let through = message.through;
    pb::WatchRevocationsResponse {
        resync: message.resync,
        revocations: message.revocations.into_iter().filter_map(to_pb_revocation).collect(),
        watermark: through.as_ref().map(|(to, _)| to.watermark().to_string()).unwrap_or_default(),
        checked_time: through.map(|(_, at)| to_pb(at)),
        cursor,
    }
}

/// A revocation as a protobuf message; `None` for one that gateways do not need.
fn to_pb_revocation(revocation: Revocation) -> Option<pb::Revocation> {
    use pb::RevocationLevel::{Device, Key, Session, Tenant, User};
    let (level, subject) = match revocation.subject {
        Subject::Session(id) => (Session, id.to_string()),
        Subject::Device(id) => (Device, id.to_string()),
        Subject::User(digest) => (User, digest),
        Subject::Tenant => (Tenant, String::new()),
        Subject::Key(kid) => (Key, kid),
        Subject::Callers => return None,
    };
    Some(pb::Revocation {
        level: level.into(),
        subject,
        below_generation: if revocation.below == ALL { 0 } else { revocation.below },
        revoke_time: Some(to_pb(revocation.at)),
        evict_time: Some(to_pb(revocation.evict_at)),
    })
}
