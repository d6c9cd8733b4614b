//! What the headers of a call say of its form and its time.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::Door;
use super::methods::Method;
use crate::grpc::deadline;

/// States how long the caller waits, and to the handler, how long the server does.
const TIMEOUT: &str = "grpc-timeout";

impl Door {
    /// How long the call may take. Where that is less than the caller waits, the request's own deadline is set to it.
    pub(super) fn timeout(
        &self,
        method: Option<&Method>,
        asked: Option<Duration>,
        headers: &mut HeaderMap,
    ) -> Duration {
        let timeout = asked.unwrap_or(Duration::MAX).min(self.request_timeout);
        let is_unary = method.is_some_and(|method| method.is_unary);
        if is_unary && asked != Some(timeout) && deadline::is_short(timeout) {
            // So that what works in parts ends in time by itself.
            headers.insert(TIMEOUT, stated(timeout));
        }
        timeout
    }
}

/// `application/grpc`, alone or with an encoding or a parameter.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Up to eight digits and a unit.
fn stated(timeout: Duration) -> HeaderValue {
    let millis = timeout.as_millis().min(99_999_999);
    HeaderValue::from_str(&format!("{millis}m")).expect("digits are ASCII")
}
