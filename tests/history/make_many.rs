//! Calls about users, devices and clients as a whole.

use sessiond::grpc::pb;
use uuid::Uuid;

use crate::call::{Body, Call};
use crate::directory::Directory;
use crate::record::{Of, What};
use crate::rng::Rng;
use crate::users::{CHANGING, FREE, USERS};

pub fn terminate(who: usize, directory: &Directory, rng: &mut Rng) -> Option<Call> {
    let user = &USERS[who];
    let mut filter = pb::SessionFilter { user_id: user.name.to_owned(), ..Default::default() };
    let of = match rng.below(3) {
        0 => Of::User,
        1 => Of::Device(directory.session(who, rng)?.device),
        _ => Of::Client(user.clients[rng.below(user.clients.len())]),
    };
    match of {
        Of::User => {}
        Of::Device(device) => filter.device_id = device.to_string(),
        Of::Client(client) => filter.client_id = client.to_owned(),
    }
    let body = Body::TerminateMany(pb::TerminateSessionsRequest {
        tenant_id: user.tenant.to_owned(),
        filter: Some(filter),
        ..Default::default()
    });
    Some(Call::new(who, What::TerminateMany { of }, body))
}

/// Erases the one user that is ever erased.
pub fn erase() -> Call {
    let who = USERS.iter().position(|user| user.erased).expect("one of them");
    let body = Body::Erase(pb::EraseUserRequest {
        tenant_id: USERS[who].tenant.to_owned(),
        user_id: USERS[who].name.to_owned(),
        ..Default::default()
    });
    Call::new(who, What::Erase, body)
}

pub fn list(who: usize) -> Call {
    let filter = pb::SessionFilter { user_id: USERS[who].name.to_owned(), ..Default::default() };
    let body = Body::List(pb::ListSessionsRequest {
        tenant_id: USERS[who].tenant.to_owned(),
        filter: Some(filter),
        page_size: 20,
        ..Default::default()
    });
    Call::new(who, What::List, body)
}

pub fn update_device(who: usize, device: Uuid, rng: &mut Rng) -> Call {
    let body = Body::UpdateDevice(Box::new(pb::UpdateDeviceRequest {
        device: Some(pb::UserDevice {
            tenant_id: USERS[who].tenant.to_owned(),
            user_id: USERS[who].name.to_owned(),
            device_id: device.to_string(),
            display_name: format!("{:08x}", rng.next() as u32),
            trusted: Some(rng.chance(50)),
            ..Default::default()
        }),
        ..Default::default()
    }));
    Call::new(who, What::UpdateDevice { device }, body)
}

pub fn revoke_device(who: usize, device: Uuid) -> Call {
    let body = Body::RevokeDevice(pb::RevokeDeviceRequest {
        tenant_id: USERS[who].tenant.to_owned(),
        user_id: USERS[who].name.to_owned(),
        device_id: device.to_string(),
        ..Default::default()
    });
    Call::new(who, What::RevokeDevice { device }, body)
}

pub fn record(who: usize, session: Uuid, rng: &mut Rng) -> Call {
    let tags: Vec<String> =
        (0..rng.between(1, 3)).map(|_| format!("{:016x}", rng.next())).collect();
    let report = |tag: &String| pb::ReportedActivity {
        session_id: session.to_string(),
        user_id: USERS[who].name.to_owned(),
        kind: pb::ActivityKind::Custom.into(),
        name: tag.clone(),
        success: Some(true),
        ..Default::default()
    };
    let body = Body::Record(pb::RecordActivitiesRequest {
        tenant_id: USERS[who].tenant.to_owned(),
        activities: tags.iter().map(report).collect(),
        ..Default::default()
    });
    Call::new(who, What::Record { session, tags }, body)
}

/// Shortens the absolute timeout of the client whose policy changes, or sets it back.
pub fn policy(rng: &mut Rng) -> Call {
    let seconds = *rng.pick(&[3_600, 7_200, 1_800, 86_400, 86_400, 20]);
    let policy = pb::Policy {
        tenant_id: CHANGING.0.to_owned(),
        client_id: CHANGING.1.to_owned(),
        absolute_timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
        idle_timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    let request = pb::UpdatePolicyRequest { policy: Some(policy), ..Default::default() };
    let body = Body::UpdatePolicy(Box::new(request));
    Call::new(FREE, What::UpdatePolicy, body)
}
