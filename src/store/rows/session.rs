//! `user_sessions`.

use std::net::IpAddr;

use chrono::Duration;
use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{are_possible, corrupt, from_generation, hex, interval, is_possible, json};
use crate::clock::Time;
use crate::error::Error;
use crate::model::claims::CustomClaims;
use crate::model::device::{Device, DeviceType};
use crate::model::ids::{ClientId, SessionKey, TenantId, UserId};
use crate::model::session::{Authentication, Chain, End, EndReason, Session, State};
use crate::store::schema::user_sessions;

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = user_sessions, check_for_backend(diesel::pg::Pg))]
pub(in crate::store) struct SessionRow {
    tenant_id: String,
    user_id: String,
    session_id: Uuid,
    client_id: String,
    device_id: Uuid,
    device_type: i16,
    device: Value,
    ip_address: Option<ipnet::IpNet>,
    user_agent: Option<String>,
    location: Option<Value>,
    acr: Option<String>,
    amr: Vec<String>,
    auth_time: Time,
    audiences: Vec<String>,
    metadata: Value,
    created_at: Time,
    last_active_at: Time,
    #[serde(serialize_with = "interval")]
    idle_timeout: Option<Duration>,
    absolute_expires_at: Time,
    sweep_at: Time,
    state: i16,
    end_reason: Option<i16>,
    ended_at: Option<Time>,
    ended_by: Option<String>,
    end_note: Option<String>,
    generation: i32,
    generation_key_id: i16,
    rotated_at: Time,
    confirmed_generation: i32,
    #[serde(serialize_with = "hex")]
    nonce: Vec<u8>,
    renewed_at: Option<Time>,
    min_generation: i32,
    step_up_at: Option<Time>,
    scope: Option<String>,
    claims: Option<Value>,
}

stored!(SessionRow as user_sessions::SqlType: "user_sessions" by "session_id");

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> SessionRow {
        let (state, end) = match &session.state {
            State::Active => (1, None),
            State::Ended(end) => (if end.reason.is_expiry() { 3 } else { 2 }, Some(end)),
        };
        SessionRow {
            tenant_id: session.key.tenant.to_string(),
            user_id: session.key.user.to_string(),
            session_id: session.key.session,
            client_id: session.client.to_string(),
            device_id: session.device.id,
            device_type: session.device.kind as i16,
            device: json(&session.device.details),
            ip_address: session.ip.map(ipnet::IpNet::from),
            user_agent: session.user_agent.clone(),
            location: session.location.as_ref().map(json),
            acr: session.authentication.acr.clone(),
            amr: session.authentication.amr.clone(),
            auth_time: session.authentication.auth_time,
            audiences: session.audiences.clone(),
            metadata: json(&session.metadata),
            created_at: session.created_at,
            last_active_at: session.last_active_at,
            idle_timeout: session.idle_timeout,
            absolute_expires_at: session.absolute_expires_at,
            sweep_at: session.sweep_at,
            state,
            end_reason: end.map(|end| end.reason as i16),
            ended_at: end.map(|end| end.at),
            ended_by: end.and_then(|end| end.by.clone()),
            end_note: end.and_then(|end| end.note.clone()),
            generation: from_generation(session.chain.generation),
            generation_key_id: session.chain.key_id,
            rotated_at: session.chain.rotated_at,
            confirmed_generation: from_generation(session.chain.confirmed),
            nonce: session.chain.nonce.to_vec(),
            renewed_at: Some(session.renewed_at),
            min_generation: from_generation(session.chain.min_generation),
            step_up_at: session.step_up_at,
            scope: session.scope.clone(),
            claims: session.claims.as_ref().map(|claims| Value::Object(claims.members())),
        }
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = Error;

    fn try_from(row: SessionRow) -> Result<Session, Error> {
        let id = row.session_id;
        let bad = |column| move || corrupt("user_sessions", column, id);
        let times = [row.auth_time, row.created_at, row.last_active_at, row.absolute_expires_at];
        let more = [row.ended_at, row.renewed_at, row.step_up_at];
        let rest = [row.sweep_at, row.rotated_at];
        if !are_possible(times.into_iter().chain(rest).map(Some).chain(more)) {
            return Err(bad("times")());
        }
        if !is_possible(row.idle_timeout) {
            return Err(bad("idle_timeout")());
        }
        let state = match (row.state, row.end_reason, row.ended_at) {
            (1, None, None) => State::Active,
            (2 | 3, Some(reason), Some(at)) => State::Ended(End {
                reason: EndReason::from_number(reason.into()).ok_or_else(bad("end_reason"))?,
                at,
                by: row.ended_by,
                note: row.end_note,
            }),
            _ => return Err(bad("state")()),
        };
        Ok(Session {
            key: SessionKey {
                tenant: TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
                user: UserId::parse(&row.user_id).map_err(|_| bad("user_id")())?,
                session: id,
            },
            client: ClientId::parse(&row.client_id).map_err(|_| bad("client_id")())?,
            device: Device {
                id: row.device_id,
                kind: DeviceType::from_number(row.device_type.into())
                    .ok_or_else(bad("device_type"))?,
                details: serde_json::from_value(row.device).map_err(|_| bad("device")())?,
            },
            ip: row.ip_address.map(|net| -> IpAddr { net.addr() }),
            user_agent: row.user_agent,
            location: row
                .location
                .map(serde_json::from_value)
                .transpose()
                .map_err(|_| bad("location")())?,
            authentication: Authentication { acr: row.acr, amr: row.amr, auth_time: row.auth_time },
            audiences: row.audiences,
            scope: row.scope,
            claims: match row.claims {
                None => None,
                Some(Value::Object(claims)) => {
                    CustomClaims::new(claims).map_err(|_| bad("claims")())?
                }
                Some(_) => return Err(bad("claims")()),
            },
            metadata: serde_json::from_value(row.metadata).map_err(|_| bad("metadata")())?,
            created_at: row.created_at,
            renewed_at: row.renewed_at.unwrap_or(row.created_at),
            last_active_at: row.last_active_at,
            idle_timeout: row.idle_timeout,
            absolute_expires_at: row.absolute_expires_at,
            sweep_at: row.sweep_at,
            step_up_at: row.step_up_at,
            state,
            chain: Chain {
                generation: u32::try_from(row.generation).map_err(|_| bad("generation")())?,
                key_id: row.generation_key_id,
                rotated_at: row.rotated_at,
                confirmed: u32::try_from(row.confirmed_generation)
                    .map_err(|_| bad("confirmed_generation")())?,
                min_generation: u32::try_from(row.min_generation)
                    .map_err(|_| bad("min_generation")())?,
                nonce: row.nonce.try_into().map_err(|_| bad("nonce")())?,
            },
        })
    }
}
