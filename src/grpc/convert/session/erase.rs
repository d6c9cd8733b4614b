//! EraseUserRequest.

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::session::to_pb_watermark;
use crate::grpc::pb;
use crate::model::ids::{TenantId, UserId};
use crate::session::erase::{Erased, Erasure};

/// Checks an erasure.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn erasure(mut request: pb::EraseUserRequest, principal: String) -> Result<Erasure> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "EraseUser", &id, &request);
    let tenant = check.take("tenant_id", TenantId::parse(&request.tenant_id));
    let user = check.take("user_id", UserId::parse(&request.user_id));
    let (Some(tenant), Some(user)) = (tenant, user) else { return Err(check.failed()) };
    check.done()?;
    Ok(Erasure { tenant, user, request: remember, principal })
}

/// The result of an erasure as a protobuf message.
pub fn to_pb_erased(erased: Erased) -> pb::EraseUserResponse {
    let Erased { ended, sessions, alerts, activities, complete, watermark } = erased;
    pb::EraseUserResponse {
        sessions_ended: ended,
        sessions_deleted: sessions,
        activities_deleted: activities,
        alerts_deleted: alerts,
        complete,
        watermark: to_pb_watermark(watermark),
    }
}
