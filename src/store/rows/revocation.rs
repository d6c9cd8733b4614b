//! `revocations`.

use serde::Serialize;
use uuid::Uuid;

use super::{corrupt, from_generation};
use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::TenantId;
use crate::model::revocation::{Revocation, Subject};

#[derive(Serialize)]
pub(in crate::store) struct RevocationRow {
    tenant_id: String,
    level: i16,
    subject: String,
    below_generation: i32,
    revoked_at: Time,
    evict_at: Time,
}

/// The columns as they are read.
pub(in crate::store) type RevocationColumns = (String, i16, String, i32, Time, Time);

impl From<&Revocation> for RevocationRow {
    fn from(revocation: &Revocation) -> RevocationRow {
        let (level, subject) = match &revocation.subject {
            Subject::Session(id) => (1, id.to_string()),
            Subject::Device(id) => (2, id.to_string()),
            Subject::User(digest) => (3, digest.clone()),
            Subject::Tenant => (4, String::new()),
            Subject::Key(kid) => (5, kid.clone()),
            Subject::Callers => (6, String::new()),
        };
        #[cfg(debug_assertions)]
        if crate::broken::is("misfiled-revocations") {
            let tenant_id = "nobody".to_owned();
            let below_generation = from_generation(revocation.below);
            let (revoked_at, evict_at) = (revocation.at, revocation.evict_at);
            return Self { tenant_id, level, subject, below_generation, revoked_at, evict_at };
        }
        RevocationRow {
            tenant_id: revocation.tenant.to_string(),
            level,
            subject,
            below_generation: from_generation(revocation.below),
            revoked_at: revocation.at,
            evict_at: revocation.evict_at,
        }
    }
}

/// The revocation in the columns.
///
/// # Errors
/// [`crate::error::Error::Internal`] if they are damaged.
pub(in crate::store) fn read(columns: RevocationColumns) -> Result<Revocation> {
    let (tenant, level, subject, below, at, evict_at) = columns;
    let wrong = |column| corrupt("revocations", column, &subject);
    let id = || Uuid::parse_str(&subject).map_err(|_| wrong("subject"));
    let subject = match level {
        1 => Subject::Session(id()?),
        2 => Subject::Device(id()?),
        3 => Subject::User(subject.clone()),
        4 => Subject::Tenant,
        5 => Subject::Key(subject.clone()),
        6 => Subject::Callers,
        _ => return Err(wrong("level")),
    };
    let tenant = TenantId::parse(&tenant).map_err(|_| wrong("tenant_id"))?;
    let below = u32::try_from(below).map_err(|_| wrong("below_generation"))?;
    Ok(Revocation { tenant, subject, below, at, evict_at })
}
