//! `sessiond.v1.SessionService`.

mod api;

use tonic::{Request, Response, Status, Streaming};

use crate::grpc::activity;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::auth::{self, principal, standing};
use crate::grpc::convert::lists::{Listing, scope};
use crate::grpc::convert::watch::watched_name;
use crate::grpc::convert::{keys, session as convert};
use crate::grpc::device;
use crate::grpc::pb;
use crate::grpc::validate::ValidationStream;
use crate::grpc::watch::{Events, Terms};
use crate::grpc::{deadline, policy, revocations, tenant, validate};
use crate::token::page::PageTokens;

pub use api::SessionApi;

#[tonic::async_trait]
impl pb::session_service_server::SessionService for SessionApi {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let caller = auth::caller(&request);
        let request = tenanted(request)?;
        let policy = match convert::scope(&request) {
            Some((tenant, client)) => self.create.policies.of(&tenant, &client).await?,
            None => self.create.policies.builtin(),
        };
        let new = convert::new_session(request, policy, self.clock.now(), caller.name.clone())?;
        let created = self.create.create(new).await?;
        Ok(Response::new(pb::CreateSessionResponse {
            session: Some(convert::to_caller(created.session, &caller)),
            tokens: created.tokens.map(convert::to_pb_tokens),
            terminated_sessions: created
                .terminated
                .into_iter()
                .map(|session| convert::to_caller(session, &caller))
                .collect(),
            watermark: convert::to_pb_watermark(created.watermark),
        }))
    }

    async fn refresh_session(
        &self,
        request: Request<pb::RefreshSessionRequest>,
    ) -> Result<Response<pb::RefreshSessionResponse>, Status> {
        let caller = auth::caller(&request);
        let request = request.into_inner();
        let client = convert::optional_context(request.client)?;
        let refreshed = self.refresh.refresh(&request.refresh_token, client, &caller).await?;
        Ok(Response::new(pb::RefreshSessionResponse {
            session: Some(convert::to_caller(refreshed.session, &caller)),
            tokens: Some(convert::to_pb_tokens(refreshed.tokens)),
        }))
    }

    async fn validate_session(
        &self,
        request: Request<pb::ValidateSessionRequest>,
    ) -> Result<Response<pb::ValidateSessionResponse>, Status> {
        validate::answer_one(self, request).await
    }

    async fn reauthenticate_session(
        &self,
        request: Request<pb::ReauthenticateSessionRequest>,
    ) -> Result<Response<pb::ReauthenticateSessionResponse>, Status> {
        let (caller, now) = (auth::caller(&request), self.clock.now());
        let input = convert::reauthentication(tenanted(request)?, now, caller.name.clone())?;
        let done = self.reauthenticate.reauthenticate(&input).await?;
        Ok(Response::new(convert::to_pb_reauthenticated(done, &caller)))
    }

    async fn terminate_session(
        &self,
        request: Request<pb::TerminateSessionRequest>,
    ) -> Result<Response<pb::TerminateSessionResponse>, Status> {
        let caller = auth::caller(&request);
        let input = convert::termination(tenanted(request)?, caller)?;
        let done = self.terminate.terminate(&input).await?;
        Ok(Response::new(convert::to_pb_terminated(done, &input.caller)))
    }

    async fn terminate_sessions(
        &self,
        request: Request<pb::TerminateSessionsRequest>,
    ) -> Result<Response<pb::TerminateSessionsResponse>, Status> {
        let (caller, budget) = (auth::caller(&request), deadline::budget(request.metadata()));
        let input = convert::mass_termination(tenanted(request)?, caller.name.clone())?;
        let done = self.terminate_many.terminate(&input, budget).await?;
        Ok(Response::new(pb::TerminateSessionsResponse {
            terminated_count: done.count,
            sample: done
                .sample
                .into_iter()
                .map(|session| convert::to_caller(session, &caller))
                .collect(),
            complete: done.complete,
            watermark: convert::to_pb_watermark(done.watermark),
        }))
    }

    async fn erase_user(
        &self,
        request: Request<pb::EraseUserRequest>,
    ) -> Result<Response<pb::EraseUserResponse>, Status> {
        let (caller, budget) = (principal(&request), deadline::budget(request.metadata()));
        let input = convert::erasure(tenanted(request)?, caller)?;
        let erased = self.erase.erase(&input, budget).await?;
        Ok(Response::new(convert::to_pb_erased(erased)))
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        let caller = auth::caller(&request);
        let (tenant, user, id) = convert::name(tenanted(request)?)?;
        let session = convert::to_caller(self.get.get(tenant, user, id).await?, &caller);
        Ok(Response::new(pb::GetSessionResponse { session: Some(session) }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let caller = auth::caller(&request);
        let request = tenanted(request)?;
        let (tenant, filter, size) = convert::filter(&request)?;
        let scope = request.filter.unwrap_or_default();
        let pages = PageTokens::of(&self.keys, self.clock.now()).await?;
        let listing = Listing::new(pages, "ListSessions", &tenant, &scope);
        let page = listing.page(size, &request.page_token)?;
        let page = self.list.list(&tenant, &filter, page).await?;
        let (sessions, next_page_token) = listing.answer(
            page,
            |session| session.key.session,
            |session| convert::to_caller(session, &caller),
        );
        Ok(Response::new(pb::ListSessionsResponse { sessions, next_page_token }))
    }

    async fn get_json_web_key_set(
        &self,
        _request: Request<pb::GetJsonWebKeySetRequest>,
    ) -> Result<Response<pb::GetJsonWebKeySetResponse>, Status> {
        // Reload: the caller may have received a token of a key that is not cached yet.
        let published = self.keys.reload().await?.published(self.clock.now());
        Ok(Response::new(keys::key_set(&published)))
    }

    async fn list_devices(
        &self,
        request: Request<pb::ListDevicesRequest>,
    ) -> Result<Response<pb::ListDevicesResponse>, Status> {
        device::list(self, request).await
    }

    async fn get_device(
        &self,
        request: Request<pb::GetDeviceRequest>,
    ) -> Result<Response<pb::GetDeviceResponse>, Status> {
        device::get(self, request).await
    }

    async fn update_device(
        &self,
        request: Request<pb::UpdateDeviceRequest>,
    ) -> Result<Response<pb::UpdateDeviceResponse>, Status> {
        device::update(self, request).await
    }

    async fn revoke_device(
        &self,
        request: Request<pb::RevokeDeviceRequest>,
    ) -> Result<Response<pb::RevokeDeviceResponse>, Status> {
        device::revoke(self, request).await
    }

    async fn forget_device(
        &self,
        request: Request<pb::ForgetDeviceRequest>,
    ) -> Result<Response<pb::ForgetDeviceResponse>, Status> {
        device::forget(self, request).await
    }

    async fn update_session(
        &self,
        request: Request<pb::UpdateSessionRequest>,
    ) -> Result<Response<pb::UpdateSessionResponse>, Status> {
        let caller = auth::caller(&request);
        let input = convert::session_update(tenanted(request)?, caller.name.clone())?;
        let session = Some(convert::to_caller(self.update.update(&input).await?, &caller));
        Ok(Response::new(pb::UpdateSessionResponse { session }))
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        policy::get(self, request).await
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        policy::list(self, request).await
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        tenant::list(self, request).await
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        tenant::users(self, request).await
    }

    async fn update_policy(
        &self,
        request: Request<pb::UpdatePolicyRequest>,
    ) -> Result<Response<pb::UpdatePolicyResponse>, Status> {
        policy::update(self, request).await
    }

    type WatchSessionsStream = Events<pb::WatchSessionsResponse>;

    async fn watch_sessions(
        &self,
        request: Request<pb::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let (deadline, standing) = (deadline::stated(request.metadata()), standing(&request));
        let request = tenanted(request)?;
        let shown = request.filter.clone().unwrap_or_default();
        let (tenant, filter, input) = convert::watch(request)?;
        let (scope, timeline) = (
            scope("WatchSessions", watched_name(tenant.as_ref()), &shown),
            self.streams.cursors().timeline(),
        );
        let terms = Terms { scope, input, deadline, standing, timeline };
        let from = self.streams.position(&terms).await?;
        let watch = self.watch.watch(tenant, filter, from).await?;
        Ok(self.streams.send(watch, terms, convert::to_pb_watched))
    }

    async fn get_session_stats(
        &self,
        request: Request<pb::GetSessionStatsRequest>,
    ) -> Result<Response<pb::GetSessionStatsResponse>, Status> {
        let (owner, window) = convert::stats_request(&tenanted(request)?, self.clock.now())?;
        let figures = self.stats.get(&owner, window).await?;
        Ok(Response::new(convert::to_pb_stats(figures)))
    }

    async fn record_activities(
        &self,
        request: Request<pb::RecordActivitiesRequest>,
    ) -> Result<Response<pb::RecordActivitiesResponse>, Status> {
        activity::record(self, request).await
    }

    async fn list_activities(
        &self,
        request: Request<pb::ListActivitiesRequest>,
    ) -> Result<Response<pb::ListActivitiesResponse>, Status> {
        activity::list(self, request).await
    }

    type ValidateSessionsStream = ValidationStream;

    async fn validate_sessions(
        &self,
        request: Request<Streaming<pb::ValidateSessionsRequest>>,
    ) -> Result<Response<ValidationStream>, Status> {
        Ok(validate::answer_all(self, request))
    }

    type WatchRevocationsStream = Events<pb::WatchRevocationsResponse>;

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        revocations::watch(self, request).await
    }
}
