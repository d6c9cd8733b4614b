//! A session to test with.

use chrono::{DateTime, Duration};

use super::*;
use crate::model::ids::TenantId;

/// When it was created.
pub(crate) fn start() -> Time {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

/// An active session of generation 1, just created.
pub(crate) fn session() -> Session {
    let at = start();
    Session {
        key: SessionKey {
            tenant: TenantId::parse("").unwrap(),
            user: UserId::parse("ada").unwrap(),
            session: Uuid::nil(),
        },
        client: ClientId::parse("web").unwrap(),
        device: Device { id: Uuid::nil(), kind: DeviceType::Web, details: Default::default() },
        ip: None,
        user_agent: None,
        location: None,
        authentication: Authentication { acr: None, amr: vec![], auth_time: at },
        audiences: vec![],
        scope: None,
        claims: None,
        metadata: Default::default(),
        created_at: at,
        renewed_at: at,
        last_active_at: at,
        idle_timeout: None,
        absolute_expires_at: at + Duration::days(1),
        sweep_at: at + Duration::days(1),
        step_up_at: None,
        state: State::Active,
        chain: Chain {
            generation: 1,
            key_id: 1,
            rotated_at: at,
            confirmed: 0,
            min_generation: 1,
            nonce: [0; 16],
        },
    }
}
