//! Re-authentications, and validations that require one.

use sessiond::grpc::pb;
use tonic::Status;

use super::{TestServer, wait};

/// What a login service sends after a second factor.
pub fn second_factor(session_id: &str) -> pb::ReauthenticateSessionRequest {
    let authentication = pb::Authentication {
        acr: "aal2".to_owned(),
        amr: vec!["pwd".to_owned(), "otp".to_owned()],
        auth_time: None,
    };
    pb::ReauthenticateSessionRequest {
        session_id: session_id.to_owned(),
        authentication: Some(authentication),
        ..Default::default()
    }
}

impl TestServer {
    /// Steps a session up, which must succeed.
    pub async fn step_up(&self, session_id: &str) -> (pb::Session, pb::TokenPair) {
        let answer = self.reauthenticate(second_factor(session_id)).await.expect("a step-up");
        (answer.session.expect("a session"), answer.tokens.expect("tokens"))
    }

    pub async fn reauthenticate(
        &self,
        request: pb::ReauthenticateSessionRequest,
    ) -> Result<pb::ReauthenticateSessionResponse, Status> {
        Ok(self.sessions().reauthenticate_session(request).await?.into_inner())
    }

    /// Validates a token with this authentication class as a requirement.
    pub async fn validate_for(&self, token: &str, acr: &str) -> pb::ValidateSessionResponse {
        let request = pb::ValidateSessionRequest {
            access_token: token.to_owned(),
            required_acr: acr.to_owned(),
            ..Default::default()
        };
        self.sessions().validate_session(request).await.expect("a judgement").into_inner()
    }

    /// Asserts that the token is from before the last re-authentication, and the session is active.
    pub async fn assert_superseded(&self, access_token: &str) {
        let judged = self.validate_now(access_token).await;
        assert_eq!(judged.outcome(), pb::Outcome::Inactive);
        assert_eq!(judged.inactive_reason(), pb::InactiveReason::Superseded);
        assert_eq!(judged.session.expect("its session").state(), pb::SessionState::Active);
    }

    /// Waits until the row has `generation` as confirmed in use.
    pub async fn until_confirmed(&self, id: &str, generation: i64) {
        let sql = format!(
            "SELECT confirmed_generation::bigint FROM user_sessions WHERE session_id = '{id}'"
        );
        wait::until(async || self.db.count(&sql).await == generation).await;
    }
}
