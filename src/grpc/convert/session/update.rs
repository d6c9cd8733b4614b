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

const METADATA: &str = "metadata";
const DISPLAY_NAME: &str = "device.display_name";

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
    let remember = request_id(&mut check, &principal, "UpdateSession", &id, &request);
    let Some(session) = request.session else {
        mask::names_only(&mut check, request.update_mask.as_ref(), &[METADATA, DISPLAY_NAME]);
        return Err(check.missing("session"));
    };
    let device = session.device.unwrap_or_default();
    let mut given = Check::default();
    let tenant = given.take("tenant_id", TenantId::parse(&session.tenant_id));
    let user = optional_user(&mut given, &session.user_id);
    let id = given.required_uuid("session_id", &session.session_id);
    given.entries(METADATA, &session.metadata);
    let name = given.text(DISPLAY_NAME, &device.display_name, 128);
    check.within("session", given);
    let fields =
        [(METADATA, !session.metadata.is_empty()), (DISPLAY_NAME, !device.display_name.is_empty())];
    let chosen = mask::chosen(&mut check, request.update_mask, &fields);
    let (Some(tenant), Some(id)) = (tenant, id) else { return Err(check.failed()) };
    check.done()?;
    let sets = |field| chosen.contains(&field);
    Ok(SessionUpdate {
        tenant,
        user,
        session: id,
        metadata: sets(METADATA).then_some(session.metadata),
        device: Setting { display_name: sets(DISPLAY_NAME).then_some(name), ..Setting::default() },
        etag: Some(session.etag).filter(|etag| !etag.is_empty()),
        request: remember,
        principal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_bad_mask_is_named_beside_the_missing_session() {
        let request = pb::UpdateSessionRequest {
            update_mask: Some(prost_types::FieldMask { paths: vec!["x".to_owned()] }),
            ..Default::default()
        };
        let Err(Error::Invalid(violations)) = session_update(request, String::new()) else {
            panic!("it was accepted")
        };
        let fields: Vec<&str> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["update_mask", "session"]);
    }
}
