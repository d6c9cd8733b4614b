//! Devices, as `sessiond.v1.SessionService` serves them.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::grpc::auth::tenants::tenanted;
use crate::grpc::auth::{self, principal};
use crate::grpc::convert::device as convert;
use crate::grpc::convert::lists::Listing;
use crate::grpc::convert::session::{to_device_caller, to_pb_watermark};
use crate::grpc::deadline;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::session::devices::{
    forget::Forget, read::ReadDevices, revoke::Revoke, update::UpdateDevice,
};
use crate::token::page::PageTokens;

/// The operations on devices.
pub struct Devices {
    pub read: ReadDevices,
    pub update: UpdateDevice,
    pub revoke: Arc<Revoke>,
    pub forget: Forget,
}

/// The most devices in a page. Each has 5 KiB at most, so a page always fits a message and need not be cut. A cut would
/// be wrong: a device that was used since it was read has moved in the list.
const MOST: usize = 500;

/// ListDevices.
pub(super) async fn list(
    api: &SessionApi,
    request: Request<pb::ListDevicesRequest>,
) -> Result<Response<pb::ListDevicesResponse>, Status> {
    let request = tenanted(request)?;
    let (tenant, user, filter, size) = convert::list(&request)?;
    let shown = Some(request.filter.unwrap_or_default());
    let user_id = user.to_string();
    let scope = pb::ListDevicesRequest { user_id, filter: shown, ..Default::default() };
    let pages = PageTokens::of(&api.keys, api.clock.now()).await?;
    let listing = Listing::new(pages, "ListDevices", &tenant, &scope);
    let page = listing.page(size.min(MOST), &request.page_token)?;
    let page = api.devices.read.list(&tenant, &user, &filter, page).await?;
    let (devices, next_page_token) = listing.answer(
        page,
        |seen| (seen.device.last_seen.at, seen.device.key.device),
        convert::to_pb_device,
    );
    Ok(Response::new(pb::ListDevicesResponse { devices, next_page_token }))
}

/// GetDevice.
pub(super) async fn get(
    api: &SessionApi,
    request: Request<pb::GetDeviceRequest>,
) -> Result<Response<pb::GetDeviceResponse>, Status> {
    let key = convert::name(&tenanted(request)?)?;
    let device = Some(convert::to_pb_device(api.devices.read.get(&key).await?));
    Ok(Response::new(pb::GetDeviceResponse { device }))
}

/// UpdateDevice.
pub(super) async fn update(
    api: &SessionApi,
    request: Request<pb::UpdateDeviceRequest>,
) -> Result<Response<pb::UpdateDeviceResponse>, Status> {
    let caller = auth::caller(&request);
    let input = convert::update(tenanted(request)?, caller.name.clone())?;
    api.devices.update.update(&input).await?;
    let device = convert::to_pb_device(api.devices.read.get(&input.key).await?);
    let device = Some(to_device_caller(device, &caller));
    Ok(Response::new(pb::UpdateDeviceResponse { device }))
}

/// RevokeDevice.
pub(super) async fn revoke(
    api: &SessionApi,
    request: Request<pb::RevokeDeviceRequest>,
) -> Result<Response<pb::RevokeDeviceResponse>, Status> {
    let (caller, budget) = (principal(&request), deadline::budget(request.metadata()));
    let input = convert::revocation(tenanted(request)?, caller)?;
    let done = api.devices.revoke.revoke(&input, budget).await?;
    Ok(Response::new(pb::RevokeDeviceResponse {
        terminated_count: done.count,
        complete: done.complete,
        watermark: to_pb_watermark(done.watermark),
    }))
}

/// ForgetDevice.
pub(super) async fn forget(
    api: &SessionApi,
    request: Request<pb::ForgetDeviceRequest>,
) -> Result<Response<pb::ForgetDeviceResponse>, Status> {
    let (caller, budget) = (principal(&request), deadline::budget(request.metadata()));
    let input = convert::forgetting(tenanted(request)?, caller)?;
    let done = api.devices.forget.forget(&input, budget).await?;
    Ok(Response::new(pb::ForgetDeviceResponse {
        terminated_count: done.count,
        complete: done.complete,
        watermark: to_pb_watermark(done.watermark),
    }))
}
