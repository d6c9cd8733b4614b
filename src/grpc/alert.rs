//! `sessiond.v1.AlertService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::alert::raise::Raise;
use crate::alert::read::ReadAlerts;
use crate::alert::resolve::Resolve;
use crate::alert::rules::ReadRules;
use crate::alert::stats::AlertStats;
use crate::alert::watch::WatchAlerts;
use crate::alert::work::AlertWorkflow;
use crate::clock::Clock;
use crate::grpc::auth::tenants::tenanted;
use crate::grpc::auth::{principal, standing};
use crate::grpc::convert::alert as convert;
use crate::grpc::convert::evaluation;
use crate::grpc::convert::lists::{Listing, of_tenant, scope};
use crate::grpc::convert::rules;
use crate::grpc::convert::session::to_pb_watermark;
use crate::grpc::convert::time::to_pb;
use crate::grpc::convert::watch::watched_name;
use crate::grpc::deadline;
use crate::grpc::pb;
use crate::grpc::watch::{Events, Streams, Terms};
use crate::session::evaluate::Evaluate;
use crate::token::keys::KeyCache;
use crate::token::page::PageTokens;

/// The service, with the operations that it calls.
pub struct AlertApi {
    pub read: ReadAlerts,
    pub work: AlertWorkflow,
    pub resolve: Resolve,
    pub raise: Raise,
    pub rules: ReadRules,
    pub evaluate: Evaluate,
    pub keys: KeyCache,
    pub watch: WatchAlerts,
    pub streams: Arc<Streams>,
    pub stats: AlertStats,
    pub clock: Clock,
}

#[tonic::async_trait]
impl pb::alert_service_server::AlertService for AlertApi {
    async fn list_alerts(
        &self,
        request: Request<pb::ListAlertsRequest>,
    ) -> Result<Response<pb::ListAlertsResponse>, Status> {
        let request = tenanted(request)?;
        let (tenant, filter, size) = convert::filter(&request)?;
        let scope = request.filter.unwrap_or_default();
        let pages = PageTokens::of(&self.keys, self.clock.now()).await?;
        let listing = Listing::new(pages, "ListAlerts", &tenant, &scope);
        let page = listing.page(size, &request.page_token)?;
        let page = self.read.list(&tenant, &filter, page).await?;
        let (alerts, next_page_token) =
            listing.answer(page, |alert| alert.id, convert::to_pb_alert);
        Ok(Response::new(pb::ListAlertsResponse { alerts, next_page_token }))
    }

    async fn get_alert(
        &self,
        request: Request<pb::GetAlertRequest>,
    ) -> Result<Response<pb::GetAlertResponse>, Status> {
        let (tenant, id) = convert::name(&tenanted(request)?)?;
        let alert = self.read.get(&tenant, id).await?;
        Ok(Response::new(pb::GetAlertResponse { alert: Some(convert::to_pb_alert(alert)) }))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<pb::AcknowledgeAlertRequest>,
    ) -> Result<Response<pb::AcknowledgeAlertResponse>, Status> {
        let caller = principal(&request);
        let step = convert::acknowledgement(tenanted(request)?, caller)?;
        let alert = self.work.step(&step).await?.alert;
        Ok(Response::new(pb::AcknowledgeAlertResponse { alert: Some(convert::to_pb_alert(alert)) }))
    }

    async fn resolve_alert(
        &self,
        request: Request<pb::ResolveAlertRequest>,
    ) -> Result<Response<pb::ResolveAlertResponse>, Status> {
        let (caller, budget) = (principal(&request), deadline::budget(request.metadata()));
        let step = convert::resolution(tenanted(request)?, caller)?;
        let (alert, ended) = self.resolve.resolve(&step, budget).await?;
        Ok(Response::new(pb::ResolveAlertResponse {
            alert: Some(convert::to_pb_alert(alert)),
            terminated_count: ended.count,
            complete: ended.complete,
            watermark: to_pb_watermark(ended.watermark),
        }))
    }

    async fn reopen_alert(
        &self,
        request: Request<pb::ReopenAlertRequest>,
    ) -> Result<Response<pb::ReopenAlertResponse>, Status> {
        let caller = principal(&request);
        let step = convert::reopening(tenanted(request)?, caller)?;
        let alert = Some(convert::to_pb_alert(self.work.step(&step).await?.alert));
        Ok(Response::new(pb::ReopenAlertResponse { alert }))
    }

    async fn add_alert_note(
        &self,
        request: Request<pb::AddAlertNoteRequest>,
    ) -> Result<Response<pb::AddAlertNoteResponse>, Status> {
        let caller = principal(&request);
        let step = convert::note(tenanted(request)?, caller)?;
        let alert = Some(convert::to_pb_alert(self.work.step(&step).await?.alert));
        Ok(Response::new(pb::AddAlertNoteResponse { alert }))
    }

    async fn raise_alert(
        &self,
        request: Request<pb::RaiseAlertRequest>,
    ) -> Result<Response<pb::RaiseAlertResponse>, Status> {
        let caller = principal(&request);
        let report = convert::report(tenanted(request)?, caller)?;
        let alert = Some(convert::to_pb_alert(self.raise.raise(&report).await?));
        Ok(Response::new(pb::RaiseAlertResponse { alert }))
    }

    async fn list_rules(
        &self,
        request: Request<pb::ListRulesRequest>,
    ) -> Result<Response<pb::ListRulesResponse>, Status> {
        let request = tenanted(request)?;
        let (tenant, size) = of_tenant(&request.tenant_id, request.page_size)?;
        let pages = PageTokens::of(&self.keys, self.clock.now()).await?;
        let scope = pb::ListRulesRequest::default();
        let listing = Listing::new(pages, "ListRules", &tenant, &scope);
        let page = listing.page(size, &request.page_token)?;
        let (rules, since) = self.rules.list(&tenant).await?;
        let (rules, next_page_token) =
            listing.answer(rules::cut(rules, page), rules::position, rules::rule);
        Ok(Response::new(pb::ListRulesResponse {
            rules,
            counted_since_time: Some(to_pb(since)),
            next_page_token,
        }))
    }

    type WatchAlertsStream = Events<pb::WatchAlertsResponse>;

    async fn watch_alerts(
        &self,
        request: Request<pb::WatchAlertsRequest>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        let (deadline, standing) = (deadline::stated(request.metadata()), standing(&request));
        let request = tenanted(request)?;
        let shown = request.filter.clone().unwrap_or_default();
        let (tenant, filter, input) = convert::watch(request)?;
        let (scope, timeline) = (
            scope("WatchAlerts", watched_name(tenant.as_ref()), &shown),
            self.streams.cursors().timeline(),
        );
        let terms = Terms { scope, input, deadline, standing, timeline };
        let from = self.streams.position(&terms).await?;
        let watch = self.watch.watch(tenant, filter, from).await?;
        Ok(self.streams.send(watch, terms, convert::to_pb_watched))
    }

    async fn evaluate_rules(
        &self,
        request: Request<pb::EvaluateRulesRequest>,
    ) -> Result<Response<pb::EvaluateRulesResponse>, Status> {
        let time = deadline::budget(request.metadata());
        let input = evaluation::evaluation(tenanted(request)?)?;
        Ok(Response::new(evaluation::to_pb(self.evaluate.evaluate(&input, time).await?)))
    }

    async fn get_alert_stats(
        &self,
        request: Request<pb::GetAlertStatsRequest>,
    ) -> Result<Response<pb::GetAlertStatsResponse>, Status> {
        let (owner, window) = convert::stats_request(tenanted(request)?, self.clock.now())?;
        let figures = self.stats.get(&owner, window).await?;
        Ok(Response::new(convert::to_pb_stats(figures)))
    }
}
