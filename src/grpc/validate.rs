//! ValidateSession, and ValidateSessions: many validations over one stream.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::error::Result;
use crate::grpc::auth::{self, AuthenticatedCaller, standing};
use crate::grpc::convert::session as convert;
use crate::grpc::deadline;
use crate::grpc::error::explain;
use crate::grpc::pb;
use crate::grpc::session::SessionApi;
use crate::session::validate::Validate;

/// The most requests of one stream that are processed at once.
pub const AT_ONCE: usize = 256;

/// The responses of one stream.
pub type ValidationStream =
    Pin<Box<dyn Stream<Item = Result<pb::ValidateSessionsResponse, Status>> + Send>>;

type Answer = Pin<Box<dyn Future<Output = pb::ValidateSessionsResponse> + Send>>;

/// The state of a stream.
struct Talk {
    validate: Arc<Validate>,
    standing: AuthenticatedCaller,
    /// The requests; `None` once no more are read.
    asked: Option<Streaming<pb::ValidateSessionsRequest>>,
    working: FuturesUnordered<Answer>,
    stop: Pin<Box<dyn Future<Output = Status> + Send>>,
    /// The status that ends the stream after the last response; `None` = OK.
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

/// ValidateSessions. Reads requests until the caller closes its side or the stream must end, and answers every request
/// that it has read. The response stream drives the reading, so no request is read before the response stream has room
/// for a response.
pub(super) fn answer_all(
    api: &SessionApi,
    request: Request<Streaming<pb::ValidateSessionsRequest>>,
) -> Response<ValidationStream> {
    let standing = standing(&request);
    let talk = Talk {
        validate: api.validate.clone(),
        standing: standing.clone(),
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
            // The end has priority: a caller that has lost its permission must get no further request processed.
            biased;
            end = &mut talk.stop => (talk.asked, talk.end) = (None, Some(end)),
            Some(answer) = talk.working.next(), if !talk.working.is_empty() => {
                return Some((Ok(answer), talk));
            }
            question = asked.next(), if has_room => match question {
                Some(Ok(question)) => {
                    let mut answer = Box::pin(answer(talk.validate.clone(), talk.standing.clone(), question));
                    // Most requests are cache hits, which complete at the first poll.
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
    standing: AuthenticatedCaller,
    question: pb::ValidateSessionsRequest,
) -> pb::ValidateSessionsResponse {
    use pb::validate_sessions_response::Result as PbResult;
    let pb::ValidateSessionsRequest { correlation_id, request } = question;
    let judging: Result<_> = async {
        standing.count()?;
        let caller = standing.caller().clone();
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
