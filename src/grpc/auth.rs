//! Authentication and authorization: the tower layer that passes a call to its handler or refuses it. Default deny: a
//! method that the table of permissions does not name is refused.

mod audit;
mod credentials;
pub mod rate;
pub mod table;
pub mod tenants;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use crate::caller::authenticator::Authenticator;
use crate::caller::directory::Credentials;
use crate::caller::permissions::Permission;
use crate::model::caller::principal::{ANONYMOUS, Caller};
use crate::model::caller::scope::Scope;
use rate::Rates;
use table::Table;

/// The layer that wraps a service in [`Auth`].
#[derive(Clone)]
pub struct AuthLayer {
    pub authenticator: Authenticator,
    pub table: Arc<Table>,
    pub rates: Arc<Rates>,
}

/// Passes permitted calls to `inner`.
#[derive(Clone)]
pub struct Auth<S> {
    inner: S,
    layer: AuthLayer,
}

/// The authenticated caller of a request, in the request's extensions.
#[derive(Clone)]
pub struct AuthenticatedCaller {
    pub caller: Caller,
    authenticator: Authenticator,
    credentials: Credentials,
    need: Permission,
}

impl AuthenticatedCaller {
    /// Waits until the caller loses the permission for this method, and returns why. For streams.
    pub async fn lost(self) -> Status {
        // Every streaming method with a handler here needs a scope, so the default is not used.
        let scope = self.need.scope().unwrap_or(Scope::KeyAdmin);
        self.authenticator.lost(self.caller, self.credentials, scope).await.into()
    }
}

/// The authenticated caller, with what is needed to watch its permission.
///
/// # Panics
/// If the request did not pass through the layer.
pub fn standing<T>(request: &tonic::Request<T>) -> AuthenticatedCaller {
    seen(request).clone()
}

fn seen<T>(request: &tonic::Request<T>) -> &AuthenticatedCaller {
    request.extensions().get().expect("no handler is reached past the layer")
}

/// The caller of the request.
pub fn caller<T>(request: &tonic::Request<T>) -> Caller {
    seen(request).caller.clone()
}

/// The name of the calling principal, as recorded in activities, alerts and ended sessions.
pub fn principal<T>(request: &tonic::Request<T>) -> String {
    seen(request).caller.name.clone()
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;
    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, layer: self.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Auth<S>
where
    S: Service<Request<A>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    A: Send + 'static,
    B: Default + Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        #[cfg(debug_assertions)]
        let request = straightened(request);
        let need = match self.layer.table.need(request.uri().path()) {
            None => return refuse(Status::unimplemented("there is no such method")),
            Some(Permission::Nothing) => return Box::pin(self.inner.call(request)),
            Some(need) => need,
        };
        let credentials = match credentials::of(&request) {
            Ok(credentials) => credentials,
            Err(error) => return refuse(error.into()),
        };
        let AuthLayer { authenticator, rates, .. } = self.layer.clone();
        match authenticator.authenticate_cached(&credentials) {
            Some(Ok(caller)) => {
                let standing = AuthenticatedCaller { caller, authenticator, credentials, need };
                pass(&mut self.inner, request, standing, &rates)
            }
            Some(Err(error)) => refuse(error.into()),
            // The service that was polled ready must make the call; its clone stays behind.
            None => {
                let clone = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, clone);
                Box::pin(async move {
                    let caller = match authenticator.authenticate(&credentials).await {
                        Ok(caller) => caller,
                        Err(error) => return Ok(Status::from(error).into_http()),
                    };
                    let standing = AuthenticatedCaller { caller, authenticator, credentials, need };
                    pass(&mut inner, request, standing, &rates).await
                })
            }
        }
    }
}

/// Makes the call if the caller has the permission and is within its rate limit. Administrative calls are logged.
fn pass<S, A, B>(
    inner: &mut S,
    mut request: Request<A>,
    standing: AuthenticatedCaller,
    rates: &Rates,
) -> BoxFuture<'static, Result<Response<B>, S::Error>>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Default + Send + 'static,
{
    let AuthenticatedCaller { caller, need, .. } = &standing;
    let permitted = need.check(caller);
    let is_narrow = matches!(&permitted, Ok(scope) if *scope != need.scope());
    let entry = need
        .scope()
        .and_then(|scope| audit::AuditEntry::begin(&mut request, caller, scope, is_narrow));
    let note = |response: &Response<B>| {
        if let Some(entry) = entry {
            entry.end(response.headers());
        }
    };
    // All anonymous callers share one name, so a limit for it would throttle them together.
    let count = || match caller.name.as_str() {
        ANONYMOUS => Ok(()),
        name => rates.count(name, request.uri().path()),
    };
    if let Err(error) = permitted.and_then(|_| count()) {
        let response = Status::from(error).into_http();
        note(&response);
        return Box::pin(std::future::ready(Ok(response)));
    }
    request.extensions_mut().insert(standing);
    let call = inner.call(request);
    Box::pin(async move { call.await.inspect(note) })
}

fn refuse<B, E>(status: Status) -> BoxFuture<'static, Result<Response<B>, E>>
where
    B: Default + Send + 'static,
    E: Send + 'static,
{
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// The request with its path normalized: a fault that tests switch on.
#[cfg(debug_assertions)]
fn straightened<A>(mut request: Request<A>) -> Request<A> {
    if let Ok(path) = request.uri().path().replace("//", "/").trim_end_matches('/').parse()
        && crate::broken::is("odd-paths")
    {
        *request.uri_mut() = path;
    }
    request
}
