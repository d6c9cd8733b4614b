//! One call on its way through the door.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};
use tracing::Span;

use super::body::DoorBody;
use super::call_id::CallId;
use super::headers::is_grpc;
use super::methods::Method;
use super::services::Answer;
use super::shares::{HeavyPermit, Permit};
use super::{AnyError, Door};
use crate::caller::directory::{Credentials, KnownCaller};
use crate::caller::permissions::Permission;
use crate::error::Result;
use crate::grpc::auth::audit::AuditEntry;
use crate::grpc::auth::{AuthenticatedCaller, credentials};
use crate::grpc::deadline;
use crate::model::caller::connection::CallerConnection;
use crate::model::caller::scope::Scope;

/// A call. Resolves to its answer; fails never.
pub struct DoorCall<B> {
    pub(super) door: Arc<Door>,
    connection: Arc<CallerConnection>,
    /// The row of its method.
    row: Option<usize>,
    pub(super) id: CallId,
    pub(super) began: Instant,
    timeout: Duration,
    /// How long the caller waits, if it says so.
    asked: Option<Duration>,
    /// Made once the call has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// It has a span only if it is refused.
    pub(super) is_silent: bool,
    span: Span,
    pub(super) audit: Option<AuditEntry>,
    state: State<B>,
}

enum State<B> {
    /// The cached callers are too old: they are read.
    Authenticating(BoxFuture<'static, Result<Proven>>, Request<B>, Permit),
    /// For its share of calls with large messages.
    Waiting(BoxFuture<'static, HeavyPermit>, Request<B>, Permit),
    Answering(Answer, Permit),
    Refused(Status),
    /// The content type is another than that of gRPC.
    NotGrpc,
    Over,
}

/// Credentials, and whom they prove.
type Proven = (Credentials, Arc<KnownCaller>);

impl<B> DoorCall<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<AnyError> + Send + Sync,
{
    pub(super) fn begin(
        door: &Arc<Door>,
        connection: &Arc<CallerConnection>,
        mut request: Request<B>,
    ) -> DoorCall<B> {
        let began = Instant::now();
        let method = door.methods.find(request.uri().path());
        let row = method.map(|method| method.row);
        let mut id = CallId::of(request.headers());
        let asked = deadline::of(request.headers());
        let timeout = door.timeout(method, asked, request.headers_mut());
        let is_silent = method.is_some_and(|method| method.is_frequent) && !door.traced;
        let span = match is_silent {
            true => Span::none(),
            false => door.span(method, id.get(&door.clock), request.headers()),
        };
        let (door, connection, state) = (door.clone(), connection.clone(), State::Over);
        let mut call = DoorCall {
            door,
            connection,
            row,
            id,
            began,
            timeout,
            asked,
            timer: None,
            is_silent,
            span,
            audit: None,
            state,
        };
        let span = call.span.clone();
        call.state = span.in_scope(|| call.enter(request));
        call
    }

    fn enter(&mut self, request: Request<B>) -> State<B> {
        let door = self.door.clone();
        let Some(method) = self.row.and_then(|row| door.methods.get(row)) else {
            return State::Refused(Status::unimplemented("there is no such method"));
        };
        if !is_grpc(request.headers()) {
            return State::NotGrpc;
        }
        if method.need == Permission::Nothing {
            return match door.shares.admit(method.kind(), &self.connection, None) {
                Ok(permit) => State::Answering(door.services.call(method, request), permit),
                Err(error) => State::Refused(error.into()),
            };
        }
        let credentials = match credentials::of(&self.connection, request.headers()) {
            Ok(credentials) => credentials,
            Err(error) => return State::Refused(error.into()),
        };
        match door.authenticator.authenticate_cached(&credentials) {
            Some(Ok(known)) => self.pass(method, (credentials, known), request),
            Some(Err(error)) => State::Refused(error.into()),
            None => {
                let permit = match door.shares.admit(method.kind(), &self.connection, None) {
                    Ok(permit) => permit,
                    Err(error) => return State::Refused(error.into()),
                };
                let authenticator = door.authenticator.clone();
                let proving = async move {
                    let known = authenticator.authenticate(&credentials).await?;
                    Ok((credentials, known))
                };
                State::Authenticating(Box::pin(proving), request, permit)
            }
        }
    }

    /// Lets an authenticated caller in, if it may do this, now.
    fn pass(&mut self, method: &Method, proven: Proven, mut request: Request<B>) -> State<B> {
        let (credentials, known) = proven;
        // Before anything else is looked up for the call.
        if let Err(error) = known.account.count(method.row) {
            return State::Refused(error.into());
        }
        let permitted = method.need.check(&known.caller);
        if method.need.scope().is_some_and(Scope::is_administrative) {
            let is_narrow = matches!(&permitted, Ok(Some(scope)) if !scope.is_administrative());
            let id = self.id.text(&self.door.clock);
            self.audit = Some(AuditEntry::new(&known.caller, &method.path, id, is_narrow));
        }
        let caller = Some(&known).filter(|known| !known.caller.is_anonymous());
        let admit = |_| self.door.shares.admit(method.kind(), &self.connection, caller);
        let permit = match permitted.and_then(admit) {
            Ok(permit) => permit,
            Err(error) => return State::Refused(error.into()),
        };
        self.connection.authenticate();
        let heavy = method.is_heavy.then(|| self.door.shares.try_heavy(&known));
        let tenant = self.audit.as_ref().map(AuditEntry::tenant);
        let authenticator = self.door.authenticator.clone();
        let (need, row) = (method.need, method.row);
        request.extensions_mut().insert(AuthenticatedCaller {
            known: known.clone(),
            authenticator,
            credentials,
            need,
            row,
            tenant,
        });
        match heavy {
            Some(None) => {
                let shares = self.door.shares.clone();
                let waiting = async move { shares.heavy(&known).await };
                State::Waiting(Box::pin(waiting), request, permit)
            }
            Some(Some(heavy)) => self.handle(method, request, permit.with_heavy(heavy)),
            None => self.handle(method, request, permit),
        }
    }

    fn handle(&self, method: &Method, request: Request<B>, permit: Permit) -> State<B> {
        State::Answering(self.door.services.call(method, request), permit)
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Poll<Response<DoorBody>> {
        let door = self.door.clone();
        let method = self.row.and_then(|row| door.methods.get(row));
        loop {
            let ready = match &mut self.state {
                State::Authenticating(proving, ..) => {
                    proving.as_mut().poll(context).map(Step::Proven)
                }
                State::Waiting(waiting, ..) => waiting.as_mut().poll(context).map(Step::Heavy),
                State::Answering(answer, _) => answer.as_mut().poll(context).map(Step::Answered),
                State::Refused(_) | State::NotGrpc | State::Over => Poll::Ready(Step::Refused),
            };
            let step = match ready {
                Poll::Ready(step) => step,
                Poll::Pending if self.is_late(context) => {
                    self.state =
                        State::Refused(Status::deadline_exceeded("the call took too long"));
                    continue;
                }
                Poll::Pending => return Poll::Pending,
            };
            let state = std::mem::replace(&mut self.state, State::Over);
            self.state = match (state, step, method) {
                // That room was of the address alone.
                (
                    State::Authenticating(_, request, permit),
                    Step::Proven(Ok(proven)),
                    Some(method),
                ) => {
                    drop(permit);
                    self.pass(method, proven, request)
                }
                (_, Step::Proven(Err(error)), _) => State::Refused(error.into()),
                (State::Waiting(_, request, permit), Step::Heavy(heavy), Some(method)) => {
                    self.handle(method, request, permit.with_heavy(heavy))
                }
                (State::Answering(_, permit), Step::Answered(Ok(answer)), Some(method)) => {
                    let is_unary = method.is_unary;
                    let deadline = self.asked.filter(|_| method.lacks_deadline());
                    let answer = answer.map(|body| {
                        let body = DoorBody::new(body, permit, is_unary);
                        match deadline {
                            Some(asked) => body.until(self.began + asked),
                            None => body,
                        }
                    });
                    return Poll::Ready(self.end(method.into(), answer));
                }
                (State::Refused(status), ..) => {
                    let answer = status.into_http::<()>().map(|()| DoorBody::empty());
                    return Poll::Ready(self.end(method, answer));
                }
                (State::NotGrpc, ..) => {
                    // gRPC over HTTP/2 (PROTOCOL-HTTP2.md): so that no client of another kind takes it for a success.
                    let mut answer = Response::new(DoorBody::empty());
                    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                    self.count(method, Code::Unknown, false);
                    return Poll::Ready(answer);
                }
                _ => return Poll::Pending,
            };
        }
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let end = self.began + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        timer.as_mut().poll(context).is_ready()
    }
}

/// What a state waited for.
enum Step {
    Proven(Result<Proven>),
    Heavy(HeavyPermit),
    Answered(Result<Response<tonic::body::Body>, Infallible>),
    Refused,
}

impl<B> Future for DoorCall<B>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<AnyError> + Send + Sync,
{
    type Output = Result<Response<DoorBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        let span = std::mem::replace(&mut call.span, Span::none());
        // `end` is in the span already.
        let answer = span.in_scope(|| call.advance(context));
        call.span = span;
        answer.map(Ok)
    }
}
