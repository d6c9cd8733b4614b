//! Makes calls: their kinds depend on the seed alone, their subjects also on the existing ones.

use std::time::Duration;

use sessiond::grpc::pb;
use sessiond::grpc::pb::terminate_session_request::Target;
use sessiond::grpc::pb::validate_session_request::Freshness;

use crate::answer::TAG;
use crate::call::{Body, Call};
use crate::directory::{Directory, Known, Pair};
use crate::make_alerts as alerts;
use crate::make_many as many;
use crate::record::{How, What};
use crate::rng::Rng;
use crate::users::{FREE, SHARED, TENANTS, USERS, User};

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Refresh,
    /// With a token that is not the newest.
    OldRefresh,
    Reauthenticate,
    Validate,
    UpdateSession,
    UpdateDevice,
    RevokeDevice,
    Terminate,
    TerminateMany,
    UpdatePolicy,
    Record,
    Erase,
    Raise,
    Step,
    Get,
    List,
    /// With a tenant in which the resource does not exist.
    Foreign,
    /// A request that was sent before, unchanged or with another body.
    Repeat,
    Clash,
}

/// The relative frequency of each kind.
const WEIGHTS: [(usize, Kind); 20] = [
    (120, Kind::Create),
    (140, Kind::Refresh),
    (40, Kind::OldRefresh),
    (30, Kind::Reauthenticate),
    (380, Kind::Validate),
    (30, Kind::UpdateSession),
    (20, Kind::UpdateDevice),
    (8, Kind::RevokeDevice),
    (70, Kind::Terminate),
    (10, Kind::TerminateMany),
    (3, Kind::UpdatePolicy),
    (25, Kind::Record),
    (6, Kind::Erase),
    (12, Kind::Raise),
    (20, Kind::Step),
    (30, Kind::Get),
    (20, Kind::List),
    (20, Kind::Foreign),
    (40, Kind::Repeat),
    (8, Kind::Clash),
];

pub fn kind(rng: &mut Rng) -> Kind {
    rng.weighted(&WEIGHTS)
}

pub fn user(rng: &mut Rng) -> usize {
    rng.below(SHARED)
}

/// A call of this kind; `None` if no subject exists yet.
pub fn call(kind: Kind, who: usize, directory: &Directory, rng: &mut Rng) -> Option<Call> {
    let mut call = match kind {
        Kind::Create => return Some(create(who, directory, rng)),
        Kind::Repeat => return directory.request(rng),
        Kind::Clash => return clash(directory, rng),
        Kind::UpdatePolicy => many::policy(rng),
        Kind::Raise => alerts::raise(who, directory, rng),
        Kind::Step => alerts::step(rng.below(TENANTS.len()), directory, rng)?,
        Kind::TerminateMany => many::terminate(who, directory, rng)?,
        Kind::Erase => many::erase(),
        Kind::List => many::list(who),
        kind => of_session(kind, who, &directory.session(who, rng)?, rng),
    };
    if rng.chance(50) {
        call.identify(rng.uuid());
    }
    Some(call)
}

fn of_session(kind: Kind, who: usize, known: &Known, rng: &mut Rng) -> Call {
    let newest = known.tokens.last().expect("every session came with tokens");
    match kind {
        Kind::Refresh => refresh(who, known, newest),
        Kind::OldRefresh => refresh(who, known, rng.pick(&known.tokens)),
        Kind::Reauthenticate => {
            let authentication =
                pb::Authentication { acr: "aal2".to_owned(), ..Default::default() };
            let body = Body::Reauthenticate(pb::ReauthenticateSessionRequest {
                tenant_id: USERS[who].tenant.to_owned(),
                session_id: known.id.to_string(),
                user_id: named(&USERS[who], rng),
                authentication: Some(authentication),
                ..Default::default()
            });
            Call::new(who, What::Reauthenticate { session: known.id }, body)
        }
        Kind::UpdateSession => {
            let tag = format!("{:016x}", rng.next());
            let body = Body::UpdateSession(Box::new(pb::UpdateSessionRequest {
                session: Some(pb::Session {
                    tenant_id: USERS[who].tenant.to_owned(),
                    session_id: known.id.to_string(),
                    user_id: named(&USERS[who], rng),
                    device: Some(pb::Device { display_name: tag.clone(), ..Default::default() }),
                    ..Default::default()
                }),
                ..Default::default()
            }));
            Call::new(who, What::UpdateSession { session: known.id, tag }, body)
        }
        Kind::UpdateDevice => many::update_device(who, known.device, rng),
        Kind::RevokeDevice => many::revoke_device(who, known.device),
        Kind::Terminate => terminate(who, known, newest, rng),
        Kind::Record => many::record(who, known.id, rng),
        Kind::Get => get(who, known, false, rng),
        Kind::Foreign if rng.chance(50) => get(who, known, true, rng),
        Kind::Foreign => {
            let mut call = terminate_by_id(who, known, USERS[FREE].tenant);
            call.foreign = true;
            if let Body::Terminate(message) = &mut call.body {
                message.tenant_id = other_tenant(&USERS[who]);
                // No other call uses this reason.
                message.reason = pb::EndReason::CredentialChanged.into();
            }
            call
        }
        _ => {
            let pair = if rng.chance(70) { newest } else { rng.pick(&known.tokens) };
            validate(who, known, pair, how(known, rng))
        }
    }
}

fn how(known: &Known, rng: &mut Rng) -> How {
    let by_weight =
        [(60, How::Default), (12, How::MaxStaleness), (14, How::Strong), (14, How::AtLeast)];
    match rng.weighted(&by_weight) {
        How::AtLeast if known.watermark.is_none() => How::Default,
        how => how,
    }
}

pub fn validate(who: usize, known: &Known, pair: &Pair, how: How) -> Call {
    let freshness = match how {
        How::Default => None,
        How::MaxStaleness => {
            Some(Freshness::MaxStaleness(prost_types::Duration { seconds: 0, nanos: 300_000_000 }))
        }
        How::Strong => Some(Freshness::Strong(true)),
        How::AtLeast => known.watermark.clone().map(Freshness::AtLeastAsFresh),
    };
    let access_token = pair.access.clone();
    let body = Body::Validate(pb::ValidateSessionRequest {
        access_token,
        freshness,
        ..Default::default()
    });
    let what = What::Validate { session: known.id, generation: pair.generation, how };
    Call::new(who, what, body)
}

pub fn refresh(who: usize, known: &Known, pair: &Pair) -> Call {
    let refresh_token = pair.refresh.clone();
    let body = Body::Refresh(pb::RefreshSessionRequest { refresh_token, client: None });
    let what = What::Refresh { session: known.id, generation: pair.generation };
    Call::new(who, what, body)
}

pub fn create(who: usize, directory: &Directory, rng: &mut Rng) -> Call {
    let user = &USERS[who];
    let client = *rng.pick(user.clients);
    let tag = format!("{:016x}", rng.next());
    let kind = if rng.chance(50) { pb::DeviceType::Mobile } else { pb::DeviceType::Tv };
    let device = pb::DeviceContext {
        identity: Some(pb::device_context::Identity::Fingerprint(format!("d{}", rng.below(3)))),
        r#type: kind.into(),
        ..Default::default()
    };
    let seconds = |from: &mut Rng| {
        Some(prost_types::Duration { seconds: from.between(2, 5) as i64, nanos: 0 })
    };
    let mut message = pb::CreateSessionRequest {
        tenant_id: user.tenant.to_owned(),
        user_id: user.name.to_owned(),
        client_id: client.to_owned(),
        client: Some(pb::ClientContext { device: Some(device), ..Default::default() }),
        metadata: [(TAG.to_owned(), tag.clone())].into(),
        ..Default::default()
    };
    if user.short_lived {
        message.absolute_timeout = seconds(rng).filter(|_| rng.chance(50));
        let idle = Duration::from_secs(2);
        message.idle_timeout = Some(idle.try_into().expect("a short time"));
    }
    let mut settles = false;
    if let Some(conflict) = directory.take_conflict(who) {
        let chosen = conflict.sessions.iter().take(conflict.must_end_count as usize);
        message.terminate_session_ids = chosen.map(|session| session.session_id.clone()).collect();
        message.conflict_token = conflict.conflict_token;
        settles = true;
    }
    let mut call = Call::new(who, What::Create { client, tag, settles }, Body::Create(message));
    if rng.chance(50) {
        call.identify(rng.uuid());
    }
    call
}

fn terminate(who: usize, known: &Known, newest: &Pair, rng: &mut Rng) -> Call {
    let target = match rng.below(4) {
        0 => Target::RefreshToken(newest.refresh.clone()),
        1 => Target::AccessToken(newest.access.clone()),
        _ => return terminate_by_id(who, known, USERS[who].tenant),
    };
    let body = Body::Terminate(pb::TerminateSessionRequest {
        tenant_id: USERS[who].tenant.to_owned(),
        target: Some(target),
        ..Default::default()
    });
    Call::new(who, What::Terminate { session: known.id }, body)
}

fn terminate_by_id(who: usize, known: &Known, tenant: &str) -> Call {
    let body = Body::Terminate(pb::TerminateSessionRequest {
        tenant_id: tenant.to_owned(),
        target: Some(Target::SessionId(known.id.to_string())),
        ..Default::default()
    });
    Call::new(who, What::Terminate { session: known.id }, body)
}

fn get(who: usize, known: &Known, foreign: bool, rng: &mut Rng) -> Call {
    let user = &USERS[who];
    let body = Body::Get(pb::GetSessionRequest {
        tenant_id: if foreign { other_tenant(user) } else { user.tenant.to_owned() },
        session_id: known.id.to_string(),
        user_id: named(user, rng),
    });
    Call { foreign, ..Call::new(who, What::Get { session: known.id }, body) }
}

/// A request with the id of another one.
fn clash(directory: &Directory, rng: &mut Rng) -> Option<Call> {
    let (id, _) = directory.request(rng)?.request()?;
    let who = user(rng);
    let kinds = [Kind::Create, Kind::Reauthenticate, Kind::UpdateSession, Kind::Record];
    let mut call = call(*rng.pick(&kinds), who, directory, rng)?;
    call.identify(id);
    Some(call)
}

fn other_tenant(user: &User) -> String {
    let other = TENANTS.into_iter().find(|tenant| *tenant != user.tenant);
    other.expect("there are two").to_owned()
}

/// The user's name, or nothing, since it is optional.
fn named(user: &User, rng: &mut Rng) -> String {
    if rng.chance(50) { user.name.to_owned() } else { String::new() }
}
