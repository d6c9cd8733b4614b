//! Converts the crate's errors to gRPC statuses: code, reason and details, as `error_reason.proto` lists them.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb::Status as RpcStatus;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::error::{Error, Reason, Violation};
use crate::grpc::convert::session::to_pb_conflict;
use crate::model::conflict::Conflict;
use crate::telemetry::quota::LineQuota;

/// `ErrorInfo.domain`.
const DOMAIN: &str = "sessiond";
/// The suggested delay of a retry: long enough for a queue to drain or a connection to be restored.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The most bytes of violations in the message and in the details. Both are sent in trailers, where a space of the
/// message takes three bytes and the details are base64: at most 6 KiB together, since many clients accept only 8 KiB.
const MESSAGE: usize = 500;
const DETAILS: usize = 2_700;

/// Lines about calls that the database did not answer, and about faults of the service. Callers can cause many.
static OUTAGES: LineQuota = LineQuota::new(10);
static FAULTS: LineQuota = LineQuota::new(100);

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let info = |reason| info(reason, []);
        match error {
            Error::Invalid(violations) => invalid(violations, Reason::InvalidField),
            Error::InvalidPageToken => invalid(
                vec![Violation {
                    field: "page_token".to_owned(),
                    rule: "must be the next_page_token of the same list".to_owned(),
                }],
                Reason::PageTokenInvalid,
            ),
            Error::InvalidCursor => invalid(
                vec![Violation {
                    field: "cursor".to_owned(),
                    rule: "must be one that the same watch sent".to_owned(),
                }],
                Reason::CursorInvalid,
            ),
            Error::CursorExpired => status(
                Code::OutOfRange,
                "the cursor is too old: read the list and watch without one",
                info(Reason::CursorExpired),
            ),
            Error::WatchTooSlow => status(
                Code::ResourceExhausted,
                "the watch was not read fast enough; resume at the last cursor, nothing is lost",
                info(Reason::WatchTooSlow),
            ),
            Error::Stopping => {
                let mut details = info(Reason::Stopping);
                details.set_retry_info(Some(RETRY_AFTER));
                let text = "this server stops; resume at the last cursor, nothing is lost";
                status(Code::Unavailable, text, details)
            }
            Error::RefreshRefused { reason, ended } => {
                let ended = ended.map(|reason| ("end_reason", end_reason_name(reason)));
                status(Code::FailedPrecondition, session_text(reason), self::info(reason, ended))
            }
            Error::SessionEnded(end) => {
                let reason = Reason::of_end(end);
                let ended = [("end_reason", end_reason_name(end))];
                status(Code::FailedPrecondition, session_text(reason), self::info(reason, ended))
            }
            Error::UnknownCaller => status(
                Code::Unauthenticated,
                "the caller is not authenticated: a valid API key or client certificate is required",
                info(Reason::CallerUnauthenticated),
            ),
            Error::NotPermitted { reason, message, metadata } => {
                status(Code::PermissionDenied, message, self::info(reason, metadata))
            }
            Error::NotFound { reason, kind, name } => {
                let mut details = info(reason);
                let text = format!("{kind} {name} does not exist");
                details.set_resource_info(kind, name, "", text.clone());
                status(Code::NotFound, text, details)
            }
            Error::RequestIdReused => status(
                Code::AlreadyExists,
                "the request_id was used with another request in the last 24 hours",
                info(Reason::RequestIdReused),
            ),
            Error::Precondition { reason, message, metadata } => {
                status(Code::FailedPrecondition, message, self::info(reason, metadata))
            }
            Error::Conflict(conflict) => conflict_status(*conflict),
            Error::EtagMismatch => status(
                Code::Aborted,
                "the etag is not the current one: read again and decide anew",
                info(Reason::EtagMismatch),
            ),
            Error::Overloaded => {
                let mut details = info(Reason::Overloaded);
                details.set_retry_info(Some(RETRY_AFTER));
                let text = "too much is waiting already; nothing was done";
                status(Code::ResourceExhausted, text, details)
            }
            Error::ShareUsedUp { kind, share, limit } => {
                let metadata = [
                    ("kind", kind.name().to_owned()),
                    ("share", share.name().to_owned()),
                    ("limit", limit.to_string()),
                ];
                let mut details = self::info(Reason::Overloaded, metadata);
                details.set_retry_info(Some(RETRY_AFTER));
                status(Code::ResourceExhausted, share.refusal(), details)
            }
            Error::RateLimited(wait) => {
                let mut details = info(Reason::RateLimited);
                // Whole milliseconds, at least one.
                let wait = Duration::from_millis(wait.as_millis() as u64 + 1);
                details.set_retry_info(Some(wait));
                status(Code::ResourceExhausted, "called too often; nothing was done", details)
            }
            #[cfg(debug_assertions)]
            Error::Unavailable(_) if crate::broken::is("outage-is-logout") => {
                status(Code::Internal, "broken", info(Reason::Internal))
            }
            Error::Unavailable(outage) => {
                if let Some(omitted) = OUTAGES.admit() {
                    tracing::warn!(%outage, omitted, "database unavailable");
                }
                let mut details = info(Reason::DatabaseUnavailable);
                details.set_retry_info(Some(RETRY_AFTER));
                let text = "the database cannot answer now; the outcome may be unknown: try again";
                status(Code::Unavailable, text, details)
            }
            Error::Internal(cause) => {
                if let Some(omitted) = FAULTS.admit() {
                    tracing::error!(cause = format!("{cause:#}"), omitted, "internal error");
                }
                let text = "internal error; the log has the details under the request id";
                status(Code::Internal, text, info(Reason::Internal))
            }
        }
    }
}

/// Adds a reason to a status without details, where [`explained`] has one.
pub fn explain(bare: Status) -> Status {
    explained(&bare).unwrap_or(bare)
}

/// The status with a reason added, if it has no details: for calls that the layers or tonic refuse before a handler.
pub fn explained(bare: &Status) -> Option<Status> {
    let reason = match bare.code() {
        _ if !bare.details().is_empty() => return None,
        Code::Internal => Reason::MessageUnreadable,
        Code::OutOfRange => Reason::MessageTooLarge,
        // tonic sends this header when it does not support the compression of the message.
        Code::Unimplemented if bare.metadata().contains_key("grpc-accept-encoding") => {
            Reason::MessageUnreadable
        }
        Code::Unimplemented => Reason::MethodUnknown,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        _ => return None,
    };
    let text = if bare.message().is_empty() { "there is no such method" } else { bare.message() };
    Some(status(bare.code(), text, info(reason, [])))
}

fn invalid(violations: Vec<Violation>, reason: Reason) -> Status {
    let size = |violation: &Violation| violation.field.len() + violation.rule.len();
    let in_message = fitting(&violations, MESSAGE, |violation| size(violation) + 3);
    let shown = violations.iter().take(in_message);
    let mut list: Vec<String> = shown.map(|v| format!("{} {}", v.field, v.rule)).collect();
    if let Some(more @ 1..) = violations.len().checked_sub(in_message) {
        list.push(format!("{more} more in the details"));
    }
    let in_details = fitting(&violations, DETAILS, |violation| size(violation) + 8);
    let cut = violations.len() - in_details;
    let shown = violations.into_iter().take(in_details);
    let mut fields: Vec<FieldViolation> =
        shown.map(|v| FieldViolation::new(v.field, v.rule)).collect();
    if cut > 0 {
        fields.push(FieldViolation::new("", format!("{cut} more rules are broken")));
    }
    let mut details = info(reason, []);
    details.set_bad_request(fields);
    status(Code::InvalidArgument, list.join("; "), details)
}

/// How many of the items fit into `bytes`, at least one.
fn fitting<T>(of: &[T], bytes: usize, size: impl Fn(&T) -> usize) -> usize {
    let ends = of.iter().scan(0, |end, one| {
        *end += size(one);
        Some(*end)
    });
    ends.take_while(|end| *end <= bytes).count().max(1)
}

/// Adds the sessions to choose from as a `SessionConflict`, a type that `ErrorDetails` does not support.
fn conflict_status(conflict: Conflict) -> Status {
    let breach = conflict.breach;
    let metadata = [
        ("scope", breach.scope.name().to_owned()),
        ("limit", breach.max.to_string()),
        ("active", breach.active.to_string()),
        ("must_end", breach.must_end().to_string()),
    ];
    let text = format!("{breach}; choose which of them are to end, {} at least", breach.must_end());
    let plain = status(Code::FailedPrecondition, text, info(Reason::SessionConflict, metadata));
    let mut details = RpcStatus::decode(plain.details()).expect("details that were just encoded");
    details.details.push(prost_types::Any {
        type_url: "type.googleapis.com/sessiond.v1.SessionConflict".to_owned(),
        value: to_pb_conflict(conflict).encode_to_vec(),
    });
    Status::with_details(plain.code(), plain.message(), details.encode_to_vec().into())
}

fn status(code: Code, text: impl Into<String>, details: ErrorDetails) -> Status {
    Status::with_error_details(code, text, details)
}

fn info(
    reason: Reason,
    metadata: impl IntoIterator<Item = (&'static str, String)>,
) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason_name(reason), DOMAIN, metadata)
}

fn session_text(reason: Reason) -> &'static str {
    match reason {
        Reason::RefreshTokenReused => "the refresh token was used before; the session is ended",
        Reason::SessionTerminated => "the session was terminated",
        Reason::SessionExpired => "the session has expired",
        Reason::SessionDataRegression => "the session's state was lost; the session is ended",
        Reason::RefreshTokenSuperseded => "the session has newer tokens from a re-authentication",
        _ => "the refresh token is not valid",
    }
}

/// The name of the proto's enum value without its prefix.
fn reason_name(reason: Reason) -> &'static str {
    use crate::grpc::pb::ErrorReason as Pb;
    let name = match reason {
        Reason::InvalidField => Pb::InvalidField,
        Reason::PageTokenInvalid => Pb::PageTokenInvalid,
        Reason::RefreshTokenInvalid => Pb::RefreshTokenInvalid,
        Reason::RefreshTokenReused => Pb::RefreshTokenReused,
        Reason::SessionTerminated => Pb::SessionTerminated,
        Reason::SessionExpired => Pb::SessionExpired,
        Reason::SessionDataRegression => Pb::SessionDataRegression,
        Reason::SessionNotFound => Pb::SessionNotFound,
        Reason::AlertNotFound => Pb::AlertNotFound,
        Reason::SessionLimitReached => Pb::SessionLimitReached,
        Reason::AlertStateInvalid => Pb::AlertStateInvalid,
        Reason::EtagMismatch => Pb::EtagMismatch,
        Reason::ExpectedMaxExceeded => Pb::ExpectedMaxExceeded,
        Reason::RequestIdReused => Pb::RequestIdReused,
        Reason::Overloaded => Pb::Overloaded,
        Reason::DatabaseUnavailable => Pb::DatabaseUnavailable,
        Reason::Internal => Pb::Internal,
        Reason::DeviceNotFound => Pb::DeviceNotFound,
        Reason::RefreshTokenSuperseded => Pb::RefreshTokenSuperseded,
        Reason::SessionConflict => Pb::SessionConflict,
        Reason::ConflictTokenInvalid => Pb::ConflictTokenInvalid,
        Reason::AlertWithoutUser => Pb::AlertWithoutUser,
        Reason::AlertNotesFull => Pb::AlertNotesFull,
        Reason::CursorExpired => Pb::CursorExpired,
        Reason::CursorInvalid => Pb::CursorInvalid,
        Reason::WatchTooSlow => Pb::WatchTooSlow,
        Reason::Stopping => Pb::Stopping,
        Reason::RateLimited => Pb::RateLimited,
        Reason::CallerUnauthenticated => Pb::CallerUnauthenticated,
        Reason::CallerNotPermitted => Pb::CallerNotPermitted,
        Reason::TenantNotPermitted => Pb::TenantNotPermitted,
        Reason::AudienceNotPermitted => Pb::AudienceNotPermitted,
        Reason::MessageUnreadable => Pb::MessageUnreadable,
        Reason::MessageTooLarge => Pb::MessageTooLarge,
        Reason::MethodUnknown => Pb::MethodUnknown,
        Reason::DeadlineExceeded => Pb::DeadlineExceeded,
    };
    name.as_str_name().trim_start_matches("ERROR_REASON_")
}

fn end_reason_name(reason: crate::model::session::EndReason) -> String {
    let name = crate::grpc::pb::EndReason::try_from(i32::from(reason as i16));
    name.unwrap_or_default().as_str_name().trim_start_matches("END_REASON_").to_owned()
}
