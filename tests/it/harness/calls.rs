//! The calls that most tests make, and the parts of their answers.

use sessiond::grpc::pb;
use tonic::Status;
use tonic_types::StatusExt;

use super::TestServer;

/// The least that a login service sends.
pub fn new_session(user: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest {
        user_id: user.to_owned(),
        client_id: "web".to_owned(),
        ..Default::default()
    }
}

impl TestServer {
    /// Creates a session, which must succeed.
    pub async fn create(&self, user: &str) -> pb::CreateSessionResponse {
        self.try_create(new_session(user)).await.expect("a session")
    }

    pub async fn try_create(
        &self,
        request: pb::CreateSessionRequest,
    ) -> Result<pb::CreateSessionResponse, Status> {
        Ok(self.sessions().create_session(request).await?.into_inner())
    }

    pub async fn refresh(&self, token: &str) -> Result<pb::RefreshSessionResponse, Status> {
        let refresh_token = token.to_owned();
        let request = pb::RefreshSessionRequest { refresh_token, client: None };
        Ok(self.sessions().refresh_session(request).await?.into_inner())
    }

    /// Validates a token; inactive is an answer, not an error.
    pub async fn validate(&self, token: &str) -> pb::ValidateSessionResponse {
        self.try_validate(token).await.expect("a judgement")
    }

    pub async fn try_validate(&self, token: &str) -> Result<pb::ValidateSessionResponse, Status> {
        let access_token = token.to_owned();
        let request = pb::ValidateSessionRequest { access_token, ..Default::default() };
        Ok(self.sessions().validate_session(request).await?.into_inner())
    }

    /// Validates a token against the database.
    pub async fn validate_now(&self, token: &str) -> pb::ValidateSessionResponse {
        self.try_validate_now(token).await.expect("a judgement")
    }

    pub async fn try_validate_now(
        &self,
        token: &str,
    ) -> Result<pb::ValidateSessionResponse, Status> {
        let freshness = Some(pb::validate_session_request::Freshness::Strong(true));
        let access_token = token.to_owned();
        let request = pb::ValidateSessionRequest { access_token, freshness, ..Default::default() };
        Ok(self.sessions().validate_session(request).await?.into_inner())
    }

    pub async fn get(&self, session_id: &str) -> Result<pb::Session, Status> {
        let session_id = session_id.to_owned();
        let request = pb::GetSessionRequest { session_id, ..Default::default() };
        let answer = self.sessions().get_session(request).await?.into_inner();
        Ok(answer.session.expect("a session"))
    }

    /// Terminates a session by id, as a logout.
    pub async fn terminate(&self, session_id: &str) -> Result<Option<pb::Session>, Status> {
        let target = pb::terminate_session_request::Target::SessionId(session_id.to_owned());
        let request = pb::TerminateSessionRequest { target: Some(target), ..Default::default() };
        Ok(self.sessions().terminate_session(request).await?.into_inner().session)
    }

    /// All sessions of a user, newest first.
    pub async fn list(&self, user: &str) -> Vec<pb::Session> {
        let filter = pb::SessionFilter { user_id: user.to_owned(), ..Default::default() };
        let request =
            pb::ListSessionsRequest { filter: Some(filter), page_size: 1000, ..Default::default() };
        self.sessions().list_sessions(request).await.expect("a list").into_inner().sessions
    }

    /// How many activities of a kind (1 created, 2 refreshed, 3 terminated, 4 expired, 7 reauthenticated)
    /// there are.
    pub async fn activities(&self, kind: i16) -> i64 {
        let sql = format!("SELECT count(*) FROM session_activities WHERE kind = {kind}");
        self.db.count(&sql).await
    }
}

/// `ErrorInfo.reason` of a refusal by the service.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every refusal has an ErrorInfo");
    assert_eq!(info.domain, "sessiond");
    info.reason.clone()
}

/// `ErrorInfo.metadata` of a refusal by the service.
pub fn metadata(status: &Status, key: &str) -> Option<String> {
    let details = status.get_error_details();
    details.error_info().expect("an ErrorInfo").metadata.get(key).cloned()
}

/// The tokens of a refresh, which must have succeeded.
pub fn successor(answer: Result<pb::RefreshSessionResponse, Status>) -> pb::TokenPair {
    answer.expect("a successor").tokens.expect("tokens")
}

/// The reason of a refresh, which must have been refused with `FAILED_PRECONDITION`.
pub fn refusal(answer: Result<pb::RefreshSessionResponse, Status>) -> String {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
    reason(&status)
}

/// Whether the database was too busy, so that the caller retries.
pub fn is_busy(status: &Status) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.reason == "DATABASE_UNAVAILABLE")
}

/// Asserts that a call ended by its deadline, according to the server or to the client.
pub fn assert_too_late(status: &Status) {
    let code = status.code();
    assert!(matches!(code, tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status:?}");
}

/// Asserts that `status` is what the contract defines for a database that does not answer.
pub fn assert_unavailable(status: &Status) {
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    assert_eq!(reason(status), "DATABASE_UNAVAILABLE");
    assert!(status.get_error_details().retry_info().is_some(), "when to retry: {status:?}");
}

/// The fields named by `BadRequest`.
pub fn violations(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let bad = details.bad_request().expect("a BadRequest");
    bad.field_violations.iter().map(|violation| violation.field.clone()).collect()
}

/// The parts of a created session that most tests need: id, access token, refresh token.
pub fn parts(created: &pb::CreateSessionResponse) -> (String, String, String) {
    let tokens = created.tokens.clone().expect("tokens");
    let id = created.session.as_ref().expect("a session").session_id.clone();
    (id, tokens.access_token, tokens.refresh_token)
}

/// Asserts that the trailers of a refusal have at most 6 KiB, as HTTP/2 counts headers (RFC 9113, section 6.5.2).
pub fn assert_fits(status: &Status) {
    let mut trailers = http::HeaderMap::new();
    status.add_header(&mut trailers).expect("trailers");
    let sizes = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    let bytes = sizes.sum::<usize>();
    assert!(bytes <= 6144, "{bytes} bytes of trailers");
}
