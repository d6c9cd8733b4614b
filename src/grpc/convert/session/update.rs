//! UpdateSessionRequest.

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::mask;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::session::optional_user;
use crate::grpc::pb;
use crate::model::ids::TenantId;
use crate::session::devices::update::Setting;
use crate::session::update::SessionUpdate;

/// Checks an update of a session.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn session_update(
    mut request: pb::UpdateSessionRequest,
    principal: String,
) -> Result<SessionUpdate> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, "UpdateSession", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = optional_user(&mut check, &request.user_id);
    let session = check.required_uuid("session_id", &request.session_id);
    check.entries("metadata", &request.metadata);
    let name = check.text("device_display_name", &request.device_display_name, 128);
    let fields = [
        ("metadata", !request.metadata.is_empty()),
        ("device_display_name", !request.device_display_name.is_empty()),
    ];
    let chosen = mask::chosen(&mut check, request.update_mask, &fields);
    let (Some(tenant), Some(session)) = (tenant, session) else { return Err(check.failed()) };
    check.done()?;
    let sets = |field| chosen.contains(&field);
    Ok(SessionUpdate {
        tenant,
        user,
        session,
        metadata: sets("metadata").then_some(request.metadata),
        device: Setting {
            display_name: sets("device_display_name").then_some(name),
            ..Setting::default()
        },
        etag: Some(request.etag).filter(|etag| !etag.is_empty()),
        request: remember,
        principal,
    })
}
