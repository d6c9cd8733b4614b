//! ValidateSession, and ValidateSessions: many questions over one stream.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::error::Result;
use crate::grpc::auth::{self, standing};
use crate::grpc::convert::session as convert;
use crate::grpc::deadline;
use crate::grpc::error::explain;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::model::caller::principal::Caller;
use crate::session::validate::Validate;

/// The most questions of one stream that are worked on at once.
pub const AT_ONCE: usize = 256;

/// The answers of one stream.
pub type ValidationStream =
    Pin<Box<dyn Stream<Item = Result<pb::ValidateSessionsResponse, Status>> + Send>>;

type Answer = Pin<Box<dyn Future<Output = pb::ValidateSessionsResponse> + Send>>;

/// A stream under way.
struct Talk {
    validate: Arc<Validate>,
    caller: Caller,
    /// `None` = no more questions are taken.
    asked: Option<Streaming<pb::ValidateSessionsRequest>>,
    working: FuturesUnordered<Answer>,
    stop: Pin<Box<dyn Future<Output = Status> + Send>>,
    /// How the stream ends after the last answer; `None` = in good order.
    end: Option<Status>,
}

/// ValidateSession.
pub(super) async fn answer_one(
    api: &SessionApi,
    request: Request<pb::ValidateSessionRequest>,
) -> Result<Response<pb::ValidateSessionResponse>, Status> {
    let caller = auth::caller(&request);
    let input = convert::validation(request.into_inner(), caller)?;
    Ok(Response::new(convert::to_pb_validated(api.validate.validate(&input).await?, &input.caller)))
}

/// ValidateSessions. Answers what is asked until the caller closes its side, or the stream is to end; what was taken is
/// answered still. Nothing is taken that nobody could be answered: the stream is looked at only when there is room for
/// an answer.
pub(super) fn answer_all(
    api: &SessionApi,
    request: Request<Streaming<pb::ValidateSessionsRequest>>,
) -> Response<ValidationStream> {
    let standing = standing(&request);
    let talk = Talk {
        validate: api.validate.clone(),
        caller: standing.caller.clone(),
        stop: Box::pin(api.streams.end(deadline::stated(request.metadata()), standing)),
        asked: Some(request.into_inner()),
        working: FuturesUnordered::new(),
        end: None,
    };
    Response::new(Box::pin(stream::unfold(talk, next)))
}

async fn next(mut talk: Talk) -> Option<(Result<pb::ValidateSessionsResponse, Status>, Talk)> {
    loop {
        let Some(asked) = &mut talk.asked else {
            if let Some(answer) = talk.working.next().await {
                return Some((Ok(answer), talk));
            }
            return talk.end.take().map(|end| (Err(end), talk));
        };
        let has_room = talk.working.len() < AT_ONCE;
        tokio::select! {
            // First whether it is to end: nobody is answered who may not ask any more.
            biased;
            end = &mut talk.stop => (talk.asked, talk.end) = (None, Some(end)),
            Some(answer) = talk.working.next(), if !talk.working.is_empty() => {
                return Some((Ok(answer), talk));
            }
            question = asked.next(), if has_room => match question {
                Some(Ok(question)) => {
                    let mut answer = Box::pin(answer(talk.validate.clone(), talk.caller.clone(), question));
                    // Most are cache hits, and wait for nothing.
                    match answer.as_mut().now_or_never() {
                        Some(answer) => return Some((Ok(answer), talk)),
                        None => talk.working.push(answer),
                    }
                }
                Some(Err(status)) => (talk.asked, talk.end) = (None, Some(explain(status))),
                None => talk.asked = None,
            },
        }
    }
}

async fn answer(
    validate: Arc<Validate>,
    caller: Caller,
    question: pb::ValidateSessionsRequest,
) -> pb::ValidateSessionsResponse {
    use pb::validate_sessions_response::Result as PbResult;
    let pb::ValidateSessionsRequest { correlation_id, request } = question;
    let judging: Result<_> = async {
        let input = convert::correlated_validation(&correlation_id, request, caller)?;
        let judged = validate.validate(&input).await?;
        Ok(convert::to_pb_validated(judged, &input.caller))
    }
    .await;
    let result = match judging {
        Ok(judged) => PbResult::Response(judged),
        Err(error) => PbResult::Failure(convert::to_pb_failure(&error.into())),
    };
    pb::ValidateSessionsResponse { correlation_id, result: Some(result) }
}
