//! How a call ended: metered, logged, and answered with its request id.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use tonic::{Code, Status};
use tracing::Span;

use super::body::DoorBody;
use super::call::DoorCall;
use super::call_id::CallId;
use super::meters::CallEnd;
use super::methods::Method;
use super::{Door, REFUSALS};
use crate::grpc::error::explained;

impl<B> DoorCall<B> {
    /// Meters and logs the answer; of a stream, how it began.
    pub(super) fn end(
        &mut self,
        method: Option<&Method>,
        mut answer: Response<DoorBody>,
    ) -> Response<DoorBody> {
        // A refusal has its status in the headers. A success has it in the trailers.
        let status = Status::from_header_map(answer.headers());
        let explained = status.as_ref().and_then(explained);
        let is_bare = explained.is_some();
        if let Some(Err(status)) = explained.map(|status| status.add_header(answer.headers_mut())) {
            tracing::warn!(%status, "a refusal without its reason");
        }
        let code = status.map_or(Code::Ok, |status| status.code());
        if code != Code::Ok || self.id.is_given() {
            let id = self.id.get(&self.door.clock).clone();
            answer.headers_mut().insert(CallId::HEADER, id);
        }
        if let Some(entry) = self.audit.take() {
            entry.end(code);
        }
        self.count(method, code, is_bare);
        answer
    }

    /// Counts and logs a call that ended with this code. `is_bare` if nothing explained it.
    pub(super) fn count(&mut self, method: Option<&Method>, code: Code, is_bare: bool) {
        let took = self.began.elapsed();
        let end = match code {
            // Every internal error of the service has details. One without comes from a message that cannot be read.
            Code::Internal if is_bare => CallEnd::Unreadable,
            _ => CallEnd::Code(code),
        };
        method.map_or(&self.door.methods.other, |method| &method.meters).ended(end, took);
        self.log(method, code, took);
    }

    fn log(&mut self, method: Option<&Method>, code: Code, took: Duration) {
        let millis = took.as_secs_f64() * 1e3;
        if code == Code::Ok {
            tracing::debug!(millis, "ok");
        } else if let Some(omitted) = REFUSALS.admit() {
            let omitted = Some(omitted).filter(|omitted| *omitted > 0);
            let line = || tracing::info!(millis, ?code, omitted, "refused");
            if self.is_silent {
                let id = self.id.get(&self.door.clock);
                self.door.span(method, id, &HeaderMap::new()).in_scope(line);
            } else {
                line();
            }
        }
    }
}

impl Door {
    /// What the lines of a call have in common.
    pub(super) fn span(
        &self,
        method: Option<&Method>,
        id: &HeaderValue,
        headers: &HeaderMap,
    ) -> Span {
        let method = method.map_or("other", |method| &*method.path);
        let id = id.to_str().unwrap_or_default();
        let span = tracing::info_span!("call", method, request_id = id);
        #[cfg(feature = "otlp")]
        if self.traced {
            crate::telemetry::otlp::go_on(&span, headers);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = headers;
        span
    }
}
