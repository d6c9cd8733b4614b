//! How the user was authenticated, as the caller states it.

use chrono::Duration;

use crate::clock::Time;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::time;
use crate::grpc::pb;

/// How far the clock of the service that authenticated the user may run ahead.
const LEEWAY: Duration = Duration::seconds(5);

/// Checks an authentication; returns class, methods and time, all empty for an absent one.
pub fn authentication(
    check: &mut Check,
    given: Option<pb::Authentication>,
    now: Time,
) -> (Option<String>, Vec<String>, Option<Time>) {
    let given = given.unwrap_or_default();
    check.token_text("authentication.acr", &given.acr, 0, 128);
    if given.amr.len() > 16 {
        check.broken("authentication.amr", "must be at most 16 values");
    }
    for (i, method) in given.amr.iter().enumerate().take(16) {
        check.token_text(&format!("authentication.amr[{i}]"), method, 1, 64);
    }
    let auth_time = time(check, "authentication.auth_time", given.auth_time);
    if auth_time.is_some_and(|time| time > now + LEEWAY) {
        check.broken("authentication.auth_time", "must be at most 5 s in the future");
    }
    (Some(given.acr).filter(|acr| !acr.is_empty()), given.amr, auth_time)
}
