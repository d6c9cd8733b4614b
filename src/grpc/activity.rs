//! The audit trail, as `sessiond.v1.SessionService` serves it.

use tonic::{Request, Response, Status};

use crate::grpc::auth::principal;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::convert::activity as convert;
use crate::grpc::convert::lists::Listing;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::session::list_activities::ListActivities;
use crate::session::record_activities::RecordActivities;
use crate::token::page::PageTokens;

/// The operations on activities.
pub struct Activities {
    pub record: RecordActivities,
    pub list: ListActivities,
}

/// RecordActivities.
pub(super) async fn record(
    api: &SessionApi,
    request: Request<pb::RecordActivitiesRequest>,
) -> Result<Response<pb::RecordActivitiesResponse>, Status> {
    let caller = principal(&request);
    let reports = convert::reports(tenanted(request)?, api.clock.now(), caller)?;
    let recorded = api.activities.record.record(&reports).await?;
    Ok(Response::new(convert::to_pb_recorded(&recorded)))
}

/// ListActivities.
pub(super) async fn list(
    api: &SessionApi,
    request: Request<pb::ListActivitiesRequest>,
) -> Result<Response<pb::ListActivitiesResponse>, Status> {
    let request = tenanted(request)?;
    let (tenant, filter, size) = convert::filter(&request)?;
    let scope = request.filter.unwrap_or_default();
    let pages = PageTokens::of(&api.keys, api.clock.now()).await?;
    let listing = Listing::new(pages, "ListActivities", &tenant, &scope);
    let page = listing.page(size, &request.page_token)?;
    let page = api.activities.list.list(&tenant, filter, page).await?;
    let (activities, next_page_token) = listing.answer(
        page,
        |activity| (activity.occurred_at, activity.id),
        convert::to_pb_activity,
    );
    Ok(Response::new(pb::ListActivitiesResponse { activities, next_page_token }))
}
