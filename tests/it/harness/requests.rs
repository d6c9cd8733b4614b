//! Calls with all fields, for tests that check more than the usual ones.

use chrono::{DateTime, Utc};
use sessiond::grpc::pb;
use tonic::Status;

use super::TestServer;
use super::calls::parts;

/// A well-formed id that no resource has.
pub const NOBODY: &str = "00000000-0000-7000-8000-000000000000";

impl TestServer {
    pub async fn list_sessions(
        &self,
        request: pb::ListSessionsRequest,
    ) -> Result<pb::ListSessionsResponse, Status> {
        Ok(self.sessions().list_sessions(request).await?.into_inner())
    }

    pub async fn list_alerts(
        &self,
        request: pb::ListAlertsRequest,
    ) -> Result<pb::ListAlertsResponse, Status> {
        Ok(self.alerts().list_alerts(request).await?.into_inner())
    }

    pub async fn terminate_as(
        &self,
        request: pb::TerminateSessionRequest,
    ) -> Result<Option<pb::Session>, Status> {
        Ok(self.sessions().terminate_session(request).await?.into_inner().session)
    }

    /// Without the watermark, which differs in a repeated answer.
    pub async fn terminate_many(
        &self,
        request: pb::TerminateSessionsRequest,
    ) -> Result<pb::TerminateSessionsResponse, Status> {
        let mut done = self.sessions().terminate_sessions(request).await?.into_inner();
        assert!(!std::mem::take(&mut done.watermark).is_empty());
        Ok(done)
    }

    pub async fn erase(&self, user: &str) -> Result<pb::EraseUserResponse, Status> {
        let request = pb::EraseUserRequest { user_id: user.to_owned(), ..Default::default() };
        Ok(self.sessions().erase_user(request).await?.into_inner())
    }

    pub async fn get_alert(&self, alert_id: &str) -> Result<pb::SecurityAlert, Status> {
        let alert_id = alert_id.to_owned();
        let request = pb::GetAlertRequest { alert_id, ..Default::default() };
        let answer = self.alerts().get_alert(request).await?.into_inner();
        Ok(answer.alert.expect("an alert"))
    }

    pub async fn acknowledge(
        &self,
        request: pb::AcknowledgeAlertRequest,
    ) -> Result<pb::SecurityAlert, Status> {
        let answer = self.alerts().acknowledge_alert(request).await?.into_inner();
        Ok(answer.alert.expect("an alert"))
    }

    pub async fn resolve(
        &self,
        request: pb::ResolveAlertRequest,
    ) -> Result<pb::SecurityAlert, Status> {
        let answer = self.alerts().resolve_alert(request).await?.into_inner();
        Ok(answer.alert.expect("an alert"))
    }

    pub async fn reopen(
        &self,
        request: pb::ReopenAlertRequest,
    ) -> Result<pb::SecurityAlert, Status> {
        let answer = self.alerts().reopen_alert(request).await?.into_inner();
        Ok(answer.alert.expect("an alert"))
    }

    pub async fn raise(&self, request: pb::RaiseAlertRequest) -> Result<pb::SecurityAlert, Status> {
        let answer = self.alerts().raise_alert(request).await?.into_inner();
        Ok(answer.alert.expect("an alert"))
    }

    /// The alerts of a user that are not suppressed, newest first.
    pub async fn alerts_of(&self, user: &str) -> Vec<pb::SecurityAlert> {
        let filter = pb::AlertFilter { user_id: user.to_owned(), ..Default::default() };
        let request = pb::ListAlertsRequest { filter: Some(filter), ..Default::default() };
        self.list_alerts(request).await.expect("a list").alerts
    }

    /// Replays the first refresh token of a new session after two refreshes; returns the alert.
    pub async fn steal_from(&self, user: &str) -> pb::SecurityAlert {
        let (_, _, first) = parts(&self.create(user).await);
        self.replay(&first).await;
        self.alerts_of(user).await.into_iter().next().expect("the alert of the replay")
    }

    /// Exchanges `first` and its successor, then presents it again; returns the refusal.
    pub async fn replay(&self, first: &str) -> Status {
        let second = self.refresh(first).await.expect("a successor").tokens.expect("tokens");
        self.refresh(&second.refresh_token).await.expect("a successor");
        self.refresh(first).await.expect_err("a replay")
    }

    /// Copies the row of a session under other ids, which is faster than creating them.
    pub async fn copy_session(&self, session_id: &str, ids: &[String]) {
        let sql = "INSERT INTO user_sessions
            SELECT (json_populate_record(s, json_build_object('session_id', id))).*
            FROM user_sessions s, unnest($1::text[]) id WHERE s.session_id = $2::text::uuid";
        let rows = self.db.connect().await.execute(sql, &[&ids, &session_id]).await;
        assert_eq!(rows.expect("copies"), ids.len() as u64);
    }

    /// A user with this many sessions, each with its activity.
    pub async fn create_many(&self, user: &str, count: usize) {
        let (id, ..) = parts(&self.create(user).await);
        self.copy_session(&id, &self.ids(count - 1)).await;
        let sql = "INSERT INTO session_activities
            SELECT (json_populate_record(a, json_build_object(
                'session_id', s.session_id, 'activity_id', s.session_id))).*
            FROM session_activities a
            JOIN user_sessions s USING (tenant_id, user_id)
            WHERE a.session_id = $1::text::uuid AND s.session_id <> a.session_id";
        let rows = self.db.connect().await.execute(sql, &[&id]).await;
        assert_eq!(rows.expect("copies"), count as u64 - 1);
        self.db.connect().await.batch_execute("ANALYZE").await.expect("statistics");
    }

    /// The same for an alert.
    pub async fn copy_alert(&self, alert_id: &str, ids: &[String]) {
        let sql = "INSERT INTO security_alerts
            SELECT (json_populate_record(
                a, json_build_object('alert_id', id, 'dedup_key', id))).*
            FROM security_alerts a, unnest($1::text[]) id WHERE a.alert_id = $2::text::uuid";
        let rows = self.db.connect().await.execute(sql, &[&ids, &alert_id]).await;
        assert_eq!(rows.expect("copies"), ids.len() as u64);
    }

    /// Changes rows directly, so that the server does not know.
    pub async fn meddle(&self, sql: &str) {
        let rows = self.db.connect().await.execute(sql, &[]).await.expect("a statement");
        assert_ne!(rows, 0, "nothing was changed by {sql}");
    }

    /// New ids.
    pub fn ids(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.clock.new_id().to_string()).collect()
    }
}

/// A time as a protobuf timestamp.
pub fn stamp(time: DateTime<Utc>) -> Option<prost_types::Timestamp> {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).expect("less than a second");
    Some(prost_types::Timestamp { seconds: time.timestamp(), nanos })
}

/// A duration as a protobuf duration.
pub fn length(length: chrono::Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: length.num_seconds(), nanos: length.subsec_nanos() })
}
