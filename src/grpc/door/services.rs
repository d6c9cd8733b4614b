//! The services behind the door.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service;

use super::methods::{Method, ServiceName};
use crate::grpc::alert::AlertApi;
use crate::grpc::pb::alert_service_server::AlertServiceServer;
use crate::grpc::pb::session_service_server::SessionServiceServer;
use crate::grpc::reflection;
use crate::grpc::session::SessionApi;

/// The largest request of a method, in bytes, except of those whose requests are batches. The largest valid one has
/// some 20 KiB.
pub const SMALL_MESSAGE: usize = 32 << 10;

/// The answer of a handler.
pub(super) type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// All services.
pub struct Services {
    sessions: SessionServiceServer<SessionApi>,
    /// The same for large requests.
    batches: SessionServiceServer<SessionApi>,
    alerts: AlertServiceServer<AlertApi>,
    /// Health, and reflection where it is on.
    others: Routes,
}

impl Services {
    /// With requests of up to `large` bytes where they are batches.
    ///
    /// # Errors
    /// The descriptors cannot be served.
    pub fn new<H: Health>(
        sessions: SessionApi,
        alerts: AlertApi,
        health: HealthServer<H>,
        large: usize,
        has_reflection: bool,
    ) -> anyhow::Result<Services> {
        let sessions = SessionServiceServer::new(sessions);
        let mut others = Routes::new(health.max_decoding_message_size(SMALL_MESSAGE));
        if has_reflection {
            others = others
                .add_service(reflection::v1::service()?)
                .add_service(reflection::v1alpha::service()?);
        }
        Ok(Services {
            batches: sessions.clone().max_decoding_message_size(large),
            sessions: sessions.max_decoding_message_size(SMALL_MESSAGE),
            alerts: AlertServiceServer::new(alerts).max_decoding_message_size(SMALL_MESSAGE),
            others: others.prepare(),
        })
    }

    /// Calls a method. No router stands in between for the methods of sessions and alerts.
    pub(super) fn call<B>(&self, method: &Method, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + Sync,
    {
        match method.service {
            ServiceName::Sessions if method.is_large => self.batches.clone().call(request),
            ServiceName::Sessions => self.sessions.clone().call(request),
            ServiceName::Alerts => self.alerts.clone().call(request),
            ServiceName::Other => Box::pin(self.others.clone().call(request)),
        }
    }
}
