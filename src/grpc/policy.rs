//! Policies, as `sessiond.v1.SessionService` serves them.

use tonic::{Request, Response, Status};

use crate::grpc::auth;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::convert::lists::{Listing, of_tenant};
use crate::grpc::convert::policy as convert;
use crate::grpc::deadline;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::token::page::PageTokens;

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

/// ListPolicies.
pub(super) async fn list(
    api: &SessionApi,
    request: Request<pb::ListPoliciesRequest>,
) -> Result<Response<pb::ListPoliciesResponse>, Status> {
    let request = tenanted(request)?;
    let (tenant, size) = of_tenant(&request.tenant_id, request.page_size)?;
    let pages = PageTokens::of(&api.keys, api.clock.now()).await?;
    let scope = pb::ListPoliciesRequest::default();
    let listing = Listing::new(pages, "ListPolicies", &tenant, &scope);
    let page = listing.page(size, &request.page_token)?;
    let page = api.get_policy.list(&tenant, page).await?;
    let (policies, next_page_token) =
        listing.answer(page, |level| level.scope.client_name().to_owned(), convert::to_pb_policy);
    Ok(Response::new(pb::ListPoliciesResponse { policies, next_page_token }))
}

/// UpdatePolicy.
pub(super) async fn update(
    api: &SessionApi,
    request: Request<pb::UpdatePolicyRequest>,
) -> Result<Response<pb::UpdatePolicyResponse>, Status> {
    let (caller, budget) = (auth::caller(&request), deadline::budget(request.metadata()));
    let input = convert::update(tenanted(request)?, caller.name.clone())?;
    let updated = api.update_policy.update(&input, budget).await?;
    Ok(Response::new(convert::to_pb_updated(updated, &caller)))
}
