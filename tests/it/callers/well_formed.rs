//! A well-formed request for every method, about resources that do not exist.

use prost::Message;
use sessiond::grpc::pb;

use crate::harness::devices::{set_device, set_session};
use crate::harness::requests::NOBODY;

/// The subject of a request. Empty texts are left out.
#[derive(Clone, Copy)]
pub struct About<'a> {
    pub tenant: &'a str,
    /// For requests that need a user.
    pub user: &'a str,
    /// The user of the session or device, for requests in which it is optional.
    pub owner: &'a str,
    pub session: &'a str,
    pub device: &'a str,
    pub alert: &'a str,
}

/// Resources that do not exist, of the caller's own tenant or the default one.
pub const NOTHING: About =
    About { tenant: "", user: "nobody", owner: "", session: NOBODY, device: NOBODY, alert: NOBODY };

/// A well-formed request about resources that do not exist.
pub fn well_formed(method: &str) -> Vec<u8> {
    of(method, NOTHING)
}

/// A well-formed request about `about`.
pub fn of(method: &str, about: About) -> Vec<u8> {
    let (tenant_id, user_id) = (about.tenant.to_owned(), about.user.to_owned());
    let (session_id, device_id) = (about.session.to_owned(), about.device.to_owned());
    let (alert_id, owner) = (about.alert.to_owned(), about.owner.to_owned());
    let (_, name) = method.split_once('/').expect("a method");
    match name {
        "CreateSession" => {
            let client_id = "web".to_owned();
            pb::CreateSessionRequest { tenant_id, user_id, client_id, ..Default::default() }
                .encode_to_vec()
        }
        "RefreshSession" => {
            pb::RefreshSessionRequest { refresh_token: "rt1_x".to_owned(), client: None }
                .encode_to_vec()
        }
        "ValidateSession" => question().encode_to_vec(),
        "ValidateSessions" => {
            let (correlation_id, request) = ("1".to_owned(), Some(question()));
            pb::ValidateSessionsRequest { correlation_id, request }.encode_to_vec()
        }
        "ReauthenticateSession" => pb::ReauthenticateSessionRequest {
            tenant_id,
            session_id,
            user_id: owner,
            authentication: Some(pb::Authentication {
                acr: "aal2".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
        "TerminateSession" => {
            let target = Some(pb::terminate_session_request::Target::SessionId(session_id));
            pb::TerminateSessionRequest { tenant_id, target, user_id: owner, ..Default::default() }
                .encode_to_vec()
        }
        "TerminateSessions" => {
            let filter = Some(pb::SessionFilter { user_id, ..Default::default() });
            pb::TerminateSessionsRequest { tenant_id, filter, ..Default::default() }.encode_to_vec()
        }
        "EraseUser" => {
            pb::EraseUserRequest { tenant_id, user_id, ..Default::default() }.encode_to_vec()
        }
        "GetSession" => {
            pb::GetSessionRequest { tenant_id, session_id, user_id: owner }.encode_to_vec()
        }
        "ListSessions" => {
            pb::ListSessionsRequest { tenant_id, ..Default::default() }.encode_to_vec()
        }
        "UpdateSession" => {
            let metadata = [("a".to_owned(), "b".to_owned())].into();
            set_session(pb::Session {
                tenant_id,
                session_id,
                user_id: owner,
                metadata,
                ..Default::default()
            })
            .encode_to_vec()
        }
        "WatchSessions" => {
            pb::WatchSessionsRequest { tenant_id, ..Default::default() }.encode_to_vec()
        }
        "GetJsonWebKeySet" => Vec::new(),
        "ListDevices" => {
            pb::ListDevicesRequest { tenant_id, user_id, ..Default::default() }.encode_to_vec()
        }
        "GetDevice" => pb::GetDeviceRequest { tenant_id, user_id, device_id }.encode_to_vec(),
        "UpdateDevice" => {
            let trusted = Some(true);
            set_device(pb::UserDevice {
                tenant_id,
                user_id,
                device_id,
                trusted,
                ..Default::default()
            })
            .encode_to_vec()
        }
        "ForgetDevice" => {
            pb::ForgetDeviceRequest { tenant_id, user_id, device_id, ..Default::default() }
                .encode_to_vec()
        }
        "RevokeDevice" => {
            pb::RevokeDeviceRequest { tenant_id, user_id, device_id, ..Default::default() }
                .encode_to_vec()
        }
        "ListPolicies" => {
            pb::ListPoliciesRequest { tenant_id, ..Default::default() }.encode_to_vec()
        }
        "ListTenants" => Vec::new(),
        "ListUsers" => pb::ListUsersRequest { tenant_id, ..Default::default() }.encode_to_vec(),
        "GetPolicy" => pb::GetPolicyRequest { tenant_id, ..Default::default() }.encode_to_vec(),
        "UpdatePolicy" => {
            let idle_timeout = Some(prost_types::Duration { seconds: 600, nanos: 0 });
            let policy = Some(pb::Policy { tenant_id, idle_timeout, ..Default::default() });
            pb::UpdatePolicyRequest { policy, dry_run: true, ..Default::default() }.encode_to_vec()
        }
        "GetSessionStats" => {
            pb::GetSessionStatsRequest { tenant_id, ..Default::default() }.encode_to_vec()
        }
        "RecordActivities" => {
            let kind = pb::ActivityKind::ApiRequest.into();
            let report = pb::ReportedActivity {
                session_id,
                user_id: owner,
                kind,
                success: Some(true),
                ..Default::default()
            };
            pb::RecordActivitiesRequest {
                tenant_id,
                activities: vec![report],
                ..Default::default()
            }
            .encode_to_vec()
        }
        "ListActivities" => {
            let filter = Some(pb::ActivityFilter { session_id, ..Default::default() });
            pb::ListActivitiesRequest { tenant_id, filter, ..Default::default() }.encode_to_vec()
        }
        "WatchRevocations" => {
            pb::WatchRevocationsRequest { tenant_id, ..Default::default() }.encode_to_vec()
        }
        "ListAlerts" => pb::ListAlertsRequest { tenant_id, ..Default::default() }.encode_to_vec(),
        "GetAlert" => pb::GetAlertRequest { tenant_id, alert_id }.encode_to_vec(),
        "GetAlertStats" => {
            pb::GetAlertStatsRequest { tenant_id, ..Default::default() }.encode_to_vec()
        }
        "ListRules" => pb::ListRulesRequest { tenant_id, ..Default::default() }.encode_to_vec(),
        "EvaluateRules" => {
            let new_device =
                Some(pb::PlainRule { mode: pb::RuleMode::Alert.into(), ..Default::default() });
            let detection = Some(pb::DetectionPolicy { new_device, ..Default::default() });
            let start_time = Some(prost_types::Timestamp { seconds: 1_773_400_000, nanos: 0 });
            let end_time = Some(prost_types::Timestamp { seconds: 1_773_480_000, nanos: 0 });
            pb::EvaluateRulesRequest {
                tenant_id,
                detection,
                start_time,
                end_time,
                ..Default::default()
            }
            .encode_to_vec()
        }
        "WatchAlerts" => pb::WatchAlertsRequest { tenant_id, ..Default::default() }.encode_to_vec(),
        "RaiseAlert" => pb::RaiseAlertRequest {
            tenant_id,
            user_id,
            rule_id: "found_elsewhere".to_owned(),
            title: "Found elsewhere".to_owned(),
            dedup_key: "1".to_owned(),
            category: pb::Category::Other.into(),
            severity: pb::Severity::Low.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "AcknowledgeAlert" => {
            pb::AcknowledgeAlertRequest { tenant_id, alert_id, ..Default::default() }
                .encode_to_vec()
        }
        "ResolveAlert" => {
            let resolution = pb::Resolution::Benign.into();
            pb::ResolveAlertRequest { tenant_id, alert_id, resolution, ..Default::default() }
                .encode_to_vec()
        }
        "ReopenAlert" => {
            pb::ReopenAlertRequest { tenant_id, alert_id, ..Default::default() }.encode_to_vec()
        }
        "AddAlertNote" => {
            let note = "x".to_owned();
            pb::AddAlertNoteRequest { tenant_id, alert_id, note, ..Default::default() }
                .encode_to_vec()
        }
        "Check" | "Watch" | "ServerReflectionInfo" => Vec::new(),
        _ => panic!("no request for {method}"),
    }
}

fn question() -> pb::ValidateSessionRequest {
    pb::ValidateSessionRequest { access_token: "x".to_owned(), ..Default::default() }
}
