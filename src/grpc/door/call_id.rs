//! The request id of a call: the caller's own, or one that is made when it is needed.

use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::clock::Clock;

/// The id under which the log has a call.
pub(super) enum CallId {
    Given(HeaderValue),
    Made(HeaderValue),
    None,
}

impl CallId {
    /// Read from the request if valid. Returned with the answer to a caller that sent one, and with each refusal.
    pub const HEADER: &'static str = "x-request-id";

    /// The id that the caller sent, if it is valid.
    pub fn of(headers: &HeaderMap) -> CallId {
        let id = headers.get(CallId::HEADER).filter(|id| is_valid(id)).cloned();
        id.map_or(CallId::None, CallId::Given)
    }

    /// True if the caller sent it.
    pub fn is_given(&self) -> bool {
        matches!(self, CallId::Given(_))
    }

    /// The id, made now if there is none.
    pub fn get(&mut self, clock: &Clock) -> &HeaderValue {
        if let CallId::None = self {
            *self = CallId::Made(header(clock.new_id()));
        }
        match self {
            CallId::Given(id) | CallId::Made(id) => id,
            CallId::None => unreachable!("it was just made"),
        }
    }

    /// The same as text.
    pub fn text(&mut self, clock: &Clock) -> &str {
        self.get(clock).to_str().unwrap_or_default()
    }
}

fn header(id: Uuid) -> HeaderValue {
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).expect("a UUID is ASCII")
}

/// Up to 128 characters that are safe in any log.
fn is_valid(id: &HeaderValue) -> bool {
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"._:-".contains(b);
    (1..=128).contains(&id.len()) && id.as_bytes().iter().all(safe)
}
