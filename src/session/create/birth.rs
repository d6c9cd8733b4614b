//! Builds a session in memory, before it is stored.

use crate::clock::{Clock, Time};
use crate::error::Result;
use crate::model::device::{Device, DeviceType};
use crate::model::ids::SessionKey;
use crate::model::policy::SessionTimeouts;
use crate::model::session::{Authentication, Chain, Session, State};
use crate::session::create::NewSession;
use crate::session::device::{derive, identity};
use crate::session::location::Locator;
use crate::token::issuer::Ready;

/// The session that `new` asks for, of generation 1, created at `now`.
pub(super) fn session(
    new: &NewSession,
    now: Time,
    clock: &Clock,
    keys: &Ready,
    locator: &Locator,
) -> Result<Session> {
    // A create with refused timeouts is never written, so any value will do.
    let own =
        SessionTimeouts { idle: new.policy.idle_timeout, absolute: new.policy.absolute_timeout };
    let timeouts = *new.timeouts.as_ref().unwrap_or(&own);
    let absolute_expires_at = now + timeouts.absolute;
    let key =
        SessionKey { tenant: new.tenant.clone(), user: new.user.clone(), session: clock.new_id() };
    let context = &new.context;
    // What the caller states is taken as it is, even if the location file has more detail.
    let location =
        context.location.clone().or_else(|| context.ip.and_then(|ip| locator.locate(ip)));
    Ok(Session {
        device: device(new),
        key,
        client: new.client.clone(),
        ip: context.ip,
        user_agent: context.user_agent.clone(),
        location,
        authentication: Authentication {
            acr: new.acr.clone(),
            amr: new.amr.clone(),
            auth_time: new.auth_time.unwrap_or(now),
        },
        audiences: new.audiences.clone(),
        scope: new.scope.clone(),
        claims: new.claims.clone(),
        metadata: new.metadata.clone(),
        created_at: now,
        renewed_at: now,
        last_active_at: now,
        idle_timeout: timeouts.idle,
        absolute_expires_at,
        sweep_at: timeouts.idle.map_or(absolute_expires_at, |idle| now + idle),
        step_up_at: None,
        state: State::Active,
        chain: Chain {
            generation: 1,
            key_id: keys.current_mac(now)?,
            rotated_at: now,
            confirmed: 0,
            min_generation: 1,
            nonce: keys.nonce()?,
        },
    })
}

/// The device: what the caller states overrides what the user agent says.
fn device(new: &NewSession) -> Device {
    let derived = new.context.user_agent.as_deref().map(derive);
    let id = identity::device_id(&new.tenant, &new.user, &new.context, derived.as_ref());
    let mut device =
        Device { id, kind: new.context.device_type, details: new.context.device.clone() };
    if let Some(derived) = derived {
        if device.kind == DeviceType::Unspecified {
            device.kind = derived.kind;
        }
        device.details.os = derived.os;
        device.details.browser = derived.browser;
        device.details.model = derived.model;
    }
    device
}
