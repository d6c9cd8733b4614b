//! The door between the connections and the handlers. It looks up the method, authenticates the caller, counts the call,
//! admits it by its share, calls the handler, and meters and logs the outcome. Default deny: a path that is not in the
//! table of permissions reaches no handler.

mod body;
mod call;
mod call_id;
mod headers;
mod meters;
pub mod methods;
mod outcome;
pub mod services;
pub mod shares;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body as HttpBody;

use crate::caller::authenticator::Authenticator;
use crate::clock::Clock;
use crate::model::caller::connection::CallerConnection;
use crate::telemetry::quota::LineQuota;
use methods::Methods;
use services::Services;
use shares::Shares;

pub use body::DoorBody;
pub use call::DoorCall;

/// Lines about refused calls.
static REFUSALS: LineQuota = LineQuota::new(100);

/// Any error of a body that is read.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The one way to the services.
pub struct Door {
    pub methods: Methods,
    pub authenticator: Authenticator,
    pub shares: Arc<Shares>,
    pub services: Services,
    pub clock: Clock,
    /// How long a call may take from its headers to its answer.
    pub request_timeout: Duration,
    /// Each call is part of a trace.
    pub traced: bool,
}

impl Door {
    /// Begins a call that came over `connection`.
    pub fn call<B>(
        self: &Arc<Door>,
        connection: &Arc<CallerConnection>,
        request: Request<B>,
    ) -> DoorCall<B>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<AnyError> + Send + Sync,
    {
        #[cfg(debug_assertions)]
        let request = straightened(request);
        DoorCall::begin(self, connection, request)
    }
}

/// The request by the path that it nearly has, for a broken twin.
#[cfg(debug_assertions)]
fn straightened<A>(mut request: Request<A>) -> Request<A> {
    if crate::broken::is("odd-paths")
        && let Ok(path) = request.uri().path().replace("//", "/").trim_end_matches('/').parse()
    {
        *request.uri_mut() = path;
    }
    request
}
