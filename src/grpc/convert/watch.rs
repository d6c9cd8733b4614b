//! The fields that all requests to watch have in common.

use std::time::Duration;

use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::duration;
use crate::model::ids::{ALL_TENANTS, TenantId};
use crate::token::cursor::MAX_LEN;

/// The range of heartbeat intervals, in seconds.
const HEARTBEATS: std::ops::RangeInclusive<i64> = 1..=60;

/// The position and heartbeat that a caller requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Empty = start now.
    pub cursor: String,
    /// `None` = the server's default.
    pub heartbeat: Option<Duration>,
}

/// The tenant to watch; `Ok(None)` = all tenants, which only principals of all tenants may watch.
///
/// # Errors
/// The rule that the text breaks.
pub fn watched(tenant: &str) -> Result<Option<TenantId>, String> {
    match tenant {
        ALL_TENANTS => Ok(None),
        one => TenantId::parse(one).map(Some),
    }
}

/// The name of the watched tenant that cursors are bound to.
pub fn watched_name(tenant: Option<&TenantId>) -> &str {
    tenant.map_or(ALL_TENANTS, TenantId::as_str)
}

/// Checks the cursor and the heartbeat interval.
pub fn input(check: &mut Check, cursor: String, heartbeat: Option<prost_types::Duration>) -> Wish {
    if cursor.len() > MAX_LEN {
        check.broken("cursor", format!("must be at most {MAX_LEN} characters"));
    }
    let interval = duration(check, "heartbeat_interval", heartbeat);
    let fits = |interval: &chrono::Duration| {
        (chrono::Duration::seconds(*HEARTBEATS.start())
            ..=chrono::Duration::seconds(*HEARTBEATS.end()))
            .contains(interval)
    };
    if interval.is_some_and(|interval| !fits(&interval)) {
        check.broken("heartbeat_interval", "must be from 1 s to 60 s");
    }
    Wish { cursor, heartbeat: interval.and_then(|interval| interval.to_std().ok()) }
}
