//! Policies, as `sessiond.v1.SessionService` serves them.

use tonic::{Request, Response, Status};

use crate::grpc::auth::principal;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::convert::policy as convert;
use crate::grpc::deadline;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;

/// GetPolicy.
pub(super) async fn get(
    api: &SessionApi,
    request: Request<pb::GetPolicyRequest>,
) -> Result<Response<pb::GetPolicyResponse>, Status> {
    let request = tenanted(request)?;
    let scope = convert::scope(&request)?;
    let (level, effective, detection) = api.get_policy.get(&scope).await?;
    Ok(Response::new(match request.effective {
        true => convert::to_pb_effective(level, effective, detection),
        false => pb::GetPolicyResponse {
            policy: Some(convert::to_pb_policy(level)),
            ..Default::default()
        },
    }))
}

/// UpdatePolicy.
pub(super) async fn update(
    api: &SessionApi,
    request: Request<pb::UpdatePolicyRequest>,
) -> Result<Response<pb::UpdatePolicyResponse>, Status> {
    let (caller, budget) = (principal(&request), deadline::budget(request.metadata()));
    let wish = convert::update(tenanted(request)?, caller)?;
    let updated = api.update_policy.update(&wish, budget).await?;
    Ok(Response::new(convert::to_pb_updated(updated)))
}
