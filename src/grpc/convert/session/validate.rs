//! ValidateSession: request and response.

use chrono::Duration;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::client;
use crate::grpc::convert::session::to_pb_watermark;
use crate::grpc::convert::session::visible::to_judge;
use crate::grpc::convert::time::{duration, to_pb};
use crate::grpc::pb;
use crate::grpc::pb::validate_session_request::Freshness as Wish;
use crate::model::caller::principal::Caller;
use crate::model::freshness::Freshness;
use crate::model::token::{InactiveReason, StepUpReason};
use crate::session::step_up::Requirements;
use crate::session::validate::{Validated, Validation, ValidationOutcome};

/// Checks a validation.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn validation(request: pb::ValidateSessionRequest, caller: Caller) -> Result<Validation> {
    let mut check = Check::default();
    let client = client::context(&mut check, request.client);
    check.token_text("audience", &request.audience, 0, 256);
    check.token_text("required_acr", &request.required_acr, 0, 128);
    let max_auth_age = duration(&mut check, "max_auth_age", request.max_auth_age);
    if max_auth_age.is_some_and(|age| age < Duration::zero()) {
        check.broken("max_auth_age", "must not be negative");
    }
    let freshness = freshness(&mut check, request.freshness);
    check.done()?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let required = Requirements { acr: given(request.required_acr), max_auth_age };
    Ok(Validation {
        token: request.access_token,
        client,
        audience: given(request.audience),
        required,
        freshness,
        caller,
    })
}

fn freshness(check: &mut Check, input: Option<Wish>) -> Freshness {
    match input {
        None => Freshness::Bounded,
        Some(Wish::MaxStaleness(age)) => {
            match duration(check, "max_staleness", Some(age)).map(|age| age.to_std()) {
                Some(Ok(std::time::Duration::ZERO)) | None => Freshness::Strong,
                Some(Ok(age)) => Freshness::Within(age),
                Some(Err(_)) => {
                    check.broken("max_staleness", "must not be negative");
                    Freshness::Strong
                }
            }
        }
        Some(Wish::Strong(strong)) => {
            if !strong {
                check.broken("strong", "must be true or absent");
            }
            Freshness::Strong
        }
        Some(Wish::AtLeastAsFresh(mark)) => match mark.parse() {
            Ok(mark) => Freshness::AtLeast(mark),
            Err(()) => {
                check.broken("at_least_as_fresh", "must be a watermark of this service");
                Freshness::Strong
            }
        },
    }
}

/// The result of a validation as a protobuf message, with the fields of the session that `caller` may see.
pub fn to_pb_validated(validated: Validated, caller: &Caller) -> pb::ValidateSessionResponse {
    let (session, outcome) = (validated.session, &validated.outcome);
    let session = session.map(|session| to_judge(session, outcome, caller));
    let (outcome, inactive, step_up) = match validated.outcome {
        ValidationOutcome::Active => (pb::Outcome::Active, pb::InactiveReason::Unspecified, vec![]),
        ValidationOutcome::Inactive(reason) => {
            (pb::Outcome::Inactive, inactive_reason(reason), vec![])
        }
        ValidationOutcome::StepUp(unmet) => {
            (pb::Outcome::StepUpRequired, pb::InactiveReason::Unspecified, unmet)
        }
    };
    pb::ValidateSessionResponse {
        outcome: outcome.into(),
        inactive_reason: inactive.into(),
        session,
        checked_time: Some(to_pb(validated.checked_at)),
        step_up_reasons: step_up.into_iter().map(|reason| step_up_reason(reason).into()).collect(),
        cacheable_until_time: validated.cacheable_until.map(to_pb),
        watermark: to_pb_watermark(validated.watermark),
    }
}

fn inactive_reason(reason: InactiveReason) -> pb::InactiveReason {
    match reason {
        InactiveReason::Malformed => pb::InactiveReason::Malformed,
        InactiveReason::SignatureInvalid => pb::InactiveReason::SignatureInvalid,
        InactiveReason::TokenExpired => pb::InactiveReason::TokenExpired,
        InactiveReason::WrongAudience => pb::InactiveReason::WrongAudience,
        InactiveReason::WrongIssuer => pb::InactiveReason::WrongIssuer,
        InactiveReason::SessionUnknown => pb::InactiveReason::SessionUnknown,
        InactiveReason::SessionTerminated => pb::InactiveReason::SessionTerminated,
        InactiveReason::SessionExpiredIdle => pb::InactiveReason::SessionExpiredIdle,
        InactiveReason::SessionExpiredAbsolute => pb::InactiveReason::SessionExpiredAbsolute,
        InactiveReason::Superseded => pb::InactiveReason::Superseded,
    }
}

fn step_up_reason(reason: StepUpReason) -> pb::StepUpReason {
    match reason {
        StepUpReason::AcrTooLow => pb::StepUpReason::AcrTooLow,
        StepUpReason::AuthenticationTooOld => pb::StepUpReason::AuthenticationTooOld,
        StepUpReason::SuspiciousActivity => pb::StepUpReason::SuspiciousActivity,
    }
}
