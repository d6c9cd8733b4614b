//! Tenants and their users, as `sessiond.v1.SessionService` lists them.

use tonic::{Request, Response, Status};

use crate::grpc::auth;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::convert::lists::{Listing, of_tenant, size};
use crate::grpc::convert::tenants as convert;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::model::ids::TenantId;
use crate::model::statistics::Summary;
use crate::token::page::PageTokens;

/// ListTenants.
pub(super) async fn list(
    api: &SessionApi,
    request: Request<pb::ListTenantsRequest>,
) -> Result<Response<pb::ListTenantsResponse>, Status> {
    let permitted = auth::caller(&request).tenants.clone();
    let request = request.into_inner();
    let size = size(request.page_size)?;
    let pages = PageTokens::of(&api.keys, api.clock.now()).await?;
    let scope = pb::ListTenantsRequest::default();
    let listing = Listing::new(pages, "ListTenants", &TenantId::default(), &scope);
    let page = listing.page(size, &request.page_token)?;
    let page = api.list_tenants.tenants(&permitted, page).await?;
    let (tenants, next_page_token) = listing.answer(page, name, convert::to_pb_tenant);
    Ok(Response::new(pb::ListTenantsResponse { tenants, next_page_token }))
}

/// ListUsers.
pub(super) async fn users(
    api: &SessionApi,
    request: Request<pb::ListUsersRequest>,
) -> Result<Response<pb::ListUsersResponse>, Status> {
    let request = tenanted(request)?;
    let (tenant, size) = of_tenant(&request.tenant_id, request.page_size)?;
    let pages = PageTokens::of(&api.keys, api.clock.now()).await?;
    let scope = pb::ListUsersRequest::default();
    let listing = Listing::new(pages, "ListUsers", &tenant, &scope);
    let page = listing.page(size, &request.page_token)?;
    let page = api.list_tenants.users(&tenant, page).await?;
    let (users, next_page_token) = listing.answer(page, name, convert::to_pb_user);
    Ok(Response::new(pb::ListUsersResponse { users, next_page_token }))
}

fn name(summary: &Summary) -> String {
    summary.name.clone()
}
