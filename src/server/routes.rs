//! The door of the gRPC port, with the services behind it.

use std::sync::Arc;

use http::Request;
use tonic_health::pb::health_server::{Health, HealthServer};

use crate::caller::authenticator::Authenticator;
use crate::clock::Clock;
use crate::edge::{RequestBody, ServeCalls};
use crate::grpc::alert::AlertApi;
use crate::grpc::door::methods::Methods;
use crate::grpc::door::services::Services;
use crate::grpc::door::shares::Shares;
use crate::grpc::door::{Door, DoorBody, DoorCall};
use crate::grpc::session::SessionApi;
use crate::metrics::Metrics;
use crate::model::caller::connection::CallerConnection;
use crate::server::settings::Settings;

/// The services to serve.
pub(super) struct Routes<H> {
    pub sessions: SessionApi,
    pub alerts: AlertApi,
    pub health: HealthServer<H>,
}

impl<H: Health> Routes<H> {
    /// The door to all services.
    ///
    /// # Errors
    /// If the table of permissions and the services differ.
    pub fn door(
        self,
        settings: &Settings,
        authenticator: Authenticator,
        clock: Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<Arc<Door>> {
        let (limits, Routes { sessions, alerts, health }) = (&settings.edge, self);
        let (large, has_reflection) = (limits.message_bytes(), settings.reflection);
        Ok(Arc::new(Door {
            methods: Methods::new(metrics)?,
            authenticator,
            shares: Arc::new(Shares::new(limits.shares.limits(), metrics)),
            services: Services::new(sessions, alerts, health, large, has_reflection)?,
            clock,
            request_timeout: limits.request_timeout,
            traced: settings.traced,
        }))
    }
}

impl ServeCalls for Arc<Door> {
    type Body = DoorBody;
    type Call = DoorCall<RequestBody>;

    fn call(
        &self,
        connection: &Arc<CallerConnection>,
        request: Request<RequestBody>,
    ) -> DoorCall<RequestBody> {
        Door::call(self, connection, request)
    }
}
