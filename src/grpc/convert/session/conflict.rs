//! SessionConflict.

use prost::Message;

use crate::grpc::convert::client;
use crate::grpc::convert::time::to_pb;
use crate::grpc::pb;
use crate::model::conflict::Conflict;
use crate::model::session::Session;

/// The most bytes of the sessions together. Details are sent in trailers as base64, which is a third longer, and an
/// error has at most 6 KiB of trailers, since some clients accept only 8 KiB of headers in all.
const MAX_BYTES: usize = 3_700;

/// A conflict as a protobuf message, with as many sessions as a status can carry.
pub fn to_pb_conflict(conflict: Conflict) -> pb::SessionConflict {
    let must_end = conflict.breach.must_end();
    let mut left = MAX_BYTES;
    let mut sessions = Vec::with_capacity(conflict.sessions.len());
    for session in conflict.sessions.into_iter().map(to_pb_session) {
        let Some(rest) = left.checked_sub(session.encoded_len()) else { break };
        left = rest;
        sessions.push(session);
    }
    pb::SessionConflict {
        conflict_token: conflict.token,
        conflict_token_expire_time: Some(to_pb(conflict.expires_at)),
        must_end_count: u32::try_from(must_end).unwrap_or(u32::MAX),
        sessions,
    }
}

fn to_pb_session(session: Session) -> pb::ConflictingSession {
    // Omitted: `os` shows the platform already, and the app version does not help to choose a session.
    let (platform, app_version) = (String::new(), String::new());
    let device = pb::Device { platform, app_version, ..client::device_to_pb(session.device) };
    pb::ConflictingSession {
        session_id: session.key.session.to_string(),
        client_id: session.client.to_string(),
        device: Some(device),
        create_time: Some(to_pb(session.created_at)),
        last_active_time: Some(to_pb(session.last_active_at)),
        country_code: session.location.and_then(|place| place.country_code).unwrap_or_default(),
    }
}
