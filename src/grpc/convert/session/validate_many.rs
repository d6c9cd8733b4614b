//! ValidateSessions: request and response.

use tonic::Status;
use tonic_types::StatusExt;

use crate::error::{Error, Result};
use crate::grpc::convert::check::Check;
use crate::grpc::convert::session::validation;
use crate::grpc::pb;
use crate::model::caller::principal::Caller;
use crate::model::ids::text_of;
use crate::session::validate::Validation;

/// Checks a request of a stream.
///
/// # Errors
/// [`Error::Invalid`].
pub fn correlated_validation(
    correlation_id: &str,
    request: Option<pb::ValidateSessionRequest>,
    caller: Caller,
) -> Result<Validation> {
    let mut check = Check::default();
    check.take("correlation_id", text_of(correlation_id, 1, 128));
    let Some(request) = request else {
        check.broken("request", "is required");
        return Err(check.failed());
    };
    match validation(request, caller) {
        Ok(input) => check.done().map(|()| input),
        Err(Error::Invalid(violations)) => {
            for violation in violations {
                check.broken(&format!("request.{}", violation.field), violation.rule);
            }
            Err(check.failed())
        }
        Err(other) => Err(other),
    }
}

/// The status of a failed validation as a message of the stream.
pub fn to_pb_failure(status: &Status) -> pb::ValidationFailure {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone());
    let violation = |violation: tonic_types::FieldViolation| pb::ValidationFieldViolation {
        field: violation.field,
        description: violation.description,
    };
    let delay = details.retry_info().and_then(|retry| retry.retry_delay);
    pb::ValidationFailure {
        code: status.code().into(),
        reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
        message: status.message().to_owned(),
        field_violations: violations.unwrap_or_default().into_iter().map(violation).collect(),
        retry_delay: delay.and_then(|delay| delay.try_into().ok()),
    }
}
