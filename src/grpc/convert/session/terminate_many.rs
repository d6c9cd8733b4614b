//! TerminateSessionsRequest.

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::session::filter::session_filter;
use crate::grpc::convert::session::terminate::end_reason;
use crate::grpc::pb;
use crate::model::ids::TenantId;
use crate::model::session::StateFilter;
use crate::session::terminate_many::MassTermination;

/// Checks a termination of many sessions.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn mass_termination(
    mut request: pb::TerminateSessionsRequest,
    principal: String,
) -> Result<MassTermination> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "TerminateSessions", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let given = request.filter.unwrap_or_default();
    let open = pb::SessionFilter { state: 0, ..given.clone() } == pb::SessionFilter::default();
    match (open, request.whole_tenant) {
        (true, false) => {
            check.broken("filter", "must set a field other than state, unless whole_tenant is set");
        }
        (false, true) => {
            check.broken("filter", "must set no field other than state if whole_tenant is set")
        }
        _ => {}
    }
    let filter = session_filter(&mut check, given);
    if !matches!(filter.state, None | Some(StateFilter::Active)) {
        check.broken("filter.state", "must be SESSION_STATE_ACTIVE or absent");
    }
    let except = check.uuid("except_session_id", &request.except_session_id);
    let reason = end_reason(&mut check, request.reason);
    let note = check.note("note", request.note, 512);
    let Some(tenant) = tenant else { return Err(check.failed()) };
    check.done()?;
    Ok(MassTermination {
        tenant,
        filter,
        except,
        up_to: None,
        reason,
        note,
        dry_run: request.dry_run,
        expected_max: Some(request.expected_max).filter(|max| *max > 0),
        request: remember.filter(|_| !request.dry_run),
        principal,
    })
}
