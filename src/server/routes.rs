//! The services on the gRPC port, and the layers around them.

use std::sync::Arc;

use tonic::service::Routes as Router;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Layer;

use crate::caller::authenticator::Authenticator;
use crate::clock::Clock;
use crate::grpc::alert::AlertApi;
use crate::grpc::auth::rate::Rates;
use crate::grpc::auth::table::Table;
use crate::grpc::auth::{Auth, AuthLayer};
use crate::grpc::concurrency::{ConcurrencyLimit, ConcurrencyLimitLayer};
use crate::grpc::meters::CallMeters;
use crate::grpc::observe::{Observe, ObserveLayer};
use crate::grpc::pb::alert_service_server::AlertServiceServer;
use crate::grpc::pb::session_service_server::SessionServiceServer;
use crate::grpc::reflection;
use crate::grpc::session::SessionApi;
use crate::metrics::Metrics;
use crate::server::settings::Settings;

/// The service that handles the requests of a connection.
pub(super) type Service = Observe<ConcurrencyLimit<Auth<Router>>>;

/// The largest request message of the health service, in bytes.
const SMALL: usize = 64 << 10;

/// The services to serve.
pub(super) struct Routes<H> {
    pub sessions: SessionApi,
    pub alerts: AlertApi,
    pub health: HealthServer<H>,
}

impl<H: Health> Routes<H> {
    /// All services within their layers. `Observe` is outermost, so that it counts refused calls too. The concurrency
    /// limit follows, before a call costs anything. Authentication is innermost, before any handler.
    pub fn service(
        self,
        settings: &Settings,
        authenticator: Authenticator,
        clock: Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<Service> {
        let (limits, traced) = (&settings.edge, settings.traced);
        let most = limits.message_bytes();
        let sessions = SessionServiceServer::new(self.sessions).max_decoding_message_size(most);
        let alerts = AlertServiceServer::new(self.alerts).max_decoding_message_size(most);
        let mut router = Router::new(self.health.max_decoding_message_size(SMALL))
            .add_service(sessions)
            .add_service(alerts);
        if settings.reflection {
            router = router
                .add_service(reflection::v1::service()?)
                .add_service(reflection::v1alpha::service()?);
        }
        let rates = Arc::new(Rates::per_second(settings.rate_limit));
        let auth = AuthLayer { authenticator, table: Arc::new(Table::new()?), rates };
        let authorised = auth.layer(router.prepare());
        let caller =
            ConcurrencyLimitLayer::new(limits.max_requests, limits.request_timeout, metrics)
                .layer(authorised);
        Ok(ObserveLayer { clock, calls: Arc::new(CallMeters::new(metrics)), traced }.layer(caller))
    }
}
