//! A session before anybody knows of it.

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::device::{Device, DeviceIdentity, DeviceType};
use crate::model::ids::SessionKey;
use crate::model::session::{Authentication, Chain, Session, State};
use crate::session::create::NewSession;
use crate::session::device::derive;
use crate::token::issuer::Issuer;

/// The session that `new` asks for, of generation 1, created at `now`.
pub(super) fn session(
    new: &NewSession,
    now: Time,
    clock: &Clock,
    issuer: &Issuer,
) -> Result<Session> {
    let timeouts = new.timeouts;
    let absolute_expires_at = now + timeouts.absolute;
    let key =
        SessionKey { tenant: new.tenant.clone(), user: new.user.clone(), session: clock.new_id() };
    Ok(Session {
        device: device(new, clock),
        key,
        client: new.client.clone(),
        ip: new.context.ip,
        user_agent: new.context.user_agent.clone(),
        location: new.context.location.clone(),
        authentication: Authentication {
            acr: new.acr.clone(),
            amr: new.amr.clone(),
            auth_time: new.auth_time.unwrap_or(now),
        },
        audiences: new.audiences.clone(),
        metadata: new.metadata.clone(),
        created_at: now,
        last_active_at: now,
        idle_timeout: timeouts.idle,
        absolute_expires_at,
        sweep_at: timeouts.idle.map_or(absolute_expires_at, |idle| now + idle),
        state: State::Active,
        chain: Chain {
            generation: 1,
            key_id: issuer.current_mac(),
            rotated_at: now,
            confirmed: 0,
            nonce: issuer.nonce()?,
        },
    })
}

/// The device: what the caller states wins over what the user agent tells.
fn device(new: &NewSession, clock: &Clock) -> Device {
    let mut device = Device {
        id: device_id(new, clock),
        kind: new.context.device_type,
        details: new.context.device.clone(),
    };
    if let Some(user_agent) = &new.context.user_agent {
        let derived = derive(user_agent);
        if device.kind == DeviceType::Unspecified {
            device.kind = derived.kind;
        }
        device.details.os = derived.os;
        device.details.browser = derived.browser;
    }
    device
}

/// The device that the caller named, or a new one. A fingerprint gives the same id every time, and
/// a different one for every user.
fn device_id(new: &NewSession, clock: &Clock) -> Uuid {
    match &new.context.identity {
        DeviceIdentity::Id(id) => *id,
        DeviceIdentity::Unknown => clock.new_id(),
        DeviceIdentity::Fingerprint(text) => {
            // None of the parts can hold the separator: control characters are refused.
            let name = format!("{}\0{}\0{text}", new.tenant, new.user);
            let hash = digest(&SHA256, name.as_bytes());
            Uuid::new_v8(hash.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
        }
    }
}
