//! A session in few bytes: postcard of what it holds, without names and without padding.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Duration};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::claims::CustomClaims;
use crate::model::device::{Device, DeviceDetails, DeviceType, Location};
use crate::model::ids::{ClientId, SessionKey, TenantId, UserId};
use crate::model::session::{Authentication, Chain, End, EndReason, Session, State};

/// Microseconds since the Unix epoch.
type Micros = i64;

/// Also the order in which it is written. Without the formats that skip fields, since nothing says which are there.
#[derive(Serialize, Deserialize)]
struct PackedSession<'a> {
    key: (&'a str, &'a str, Uuid),
    client: &'a str,
    #[serde(borrow)]
    device: (Uuid, i16, [Option<&'a str>; 6]),
    ip: Option<IpAddr>,
    #[serde(borrow)]
    user_agent: Option<&'a str>,
    #[serde(borrow)]
    location: Option<PackedLocation<'a>>,
    #[serde(borrow)]
    acr: Option<&'a str>,
    #[serde(borrow)]
    amr: Vec<&'a str>,
    #[serde(borrow)]
    audiences: Vec<&'a str>,
    #[serde(borrow)]
    scope: Option<&'a str>,
    /// As JSON.
    #[serde(borrow)]
    claims: Option<&'a str>,
    #[serde(borrow)]
    metadata: Vec<(&'a str, &'a str)>,
    created_at: Micros,
    /// The rest of the times, relative to it: authenticated, renewed, last active, absolute deadline, next sweep,
    /// rotated.
    later: [Micros; 6],
    idle_timeout: Option<Micros>,
    step_up_at: Option<Micros>,
    #[serde(borrow)]
    end: Option<(i16, Micros, Option<&'a str>, Option<&'a str>)>,
    chain: (u32, i16, u32, u32, [u8; 16]),
}

#[derive(Serialize, Deserialize)]
struct PackedLocation<'a> {
    #[serde(borrow)]
    names: [Option<&'a str>; 3],
    coordinates: Option<(f64, f64)>,
    accuracy_km: Option<u32>,
    asn: Option<u32>,
}

/// The session in few bytes.
pub(super) fn pack(session: &Session) -> Box<[u8]> {
    let created_at = micros(session.created_at);
    let since = |at: Time| micros(at) - created_at;
    let details = &session.device.details;
    let device = [
        &details.name,
        &details.platform,
        &details.app_version,
        &details.os,
        &details.browser,
        &details.model,
    ];
    let packed = PackedSession {
        key: (session.key.tenant.as_str(), session.key.user.as_str(), session.key.session),
        client: session.client.as_str(),
        device: (session.device.id, session.device.kind as i16, device.map(Option::as_deref)),
        ip: session.ip,
        user_agent: session.user_agent.as_deref(),
        location: session.location.as_ref().map(|place| PackedLocation {
            names: [&place.country_code, &place.region, &place.city].map(Option::as_deref),
            coordinates: place.coordinates,
            accuracy_km: place.accuracy_km,
            asn: place.asn,
        }),
        acr: session.authentication.acr.as_deref(),
        amr: session.authentication.amr.iter().map(String::as_str).collect(),
        audiences: session.audiences.iter().map(String::as_str).collect(),
        scope: session.scope.as_deref(),
        claims: session.claims.as_ref().map(CustomClaims::as_json),
        metadata: session.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        created_at,
        later: [
            since(session.authentication.auth_time),
            since(session.renewed_at),
            since(session.last_active_at),
            since(session.absolute_expires_at),
            since(session.sweep_at),
            since(session.chain.rotated_at),
        ],
        idle_timeout: session.idle_timeout.and_then(|idle| idle.num_microseconds()),
        step_up_at: session.step_up_at.map(micros),
        end: match &session.state {
            State::Active => None,
            State::Ended(end) => {
                Some((end.reason as i16, micros(end.at), end.by.as_deref(), end.note.as_deref()))
            }
        },
        chain: {
            let chain = &session.chain;
            let Chain { generation, key_id, confirmed, min_generation, nonce, .. } = chain;
            (*generation, *key_id, *confirmed, *min_generation, *nonce)
        },
    };
    postcard::to_allocvec(&packed).expect("plain data").into_boxed_slice()
}

/// The session again; `None` for bytes that [`pack`] did not make.
pub(super) fn unpack(bytes: &[u8]) -> Option<Session> {
    let packed: PackedSession<'_> = postcard::from_bytes(bytes).ok()?;
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let all = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    let at = |index: usize| time(packed.created_at.checked_add(packed.later[index])?);
    let (tenant, user, session) = packed.key;
    let (device, kind, [name, platform, app_version, os, browser, model]) = packed.device;
    let (generation, key_id, confirmed, min_generation, nonce) = packed.chain;
    let state = match packed.end {
        None => State::Active,
        Some((reason, at, by, note)) => State::Ended(End {
            reason: EndReason::from_number(reason.into())?,
            at: time(at)?,
            by: owned(by),
            note: owned(note),
        }),
    };
    let step_up_at = match packed.step_up_at {
        None => None,
        Some(at) => Some(time(at)?),
    };
    Some(Session {
        key: SessionKey {
            tenant: TenantId::parse(tenant).ok()?,
            user: UserId::parse(user).ok()?,
            session,
        },
        client: ClientId::parse(packed.client).ok()?,
        device: Device {
            id: device,
            kind: DeviceType::from_number(kind.into())?,
            details: DeviceDetails {
                name: owned(name),
                platform: owned(platform),
                app_version: owned(app_version),
                os: owned(os),
                browser: owned(browser),
                model: owned(model),
            },
        },
        ip: packed.ip,
        user_agent: owned(packed.user_agent),
        location: packed.location.map(place),
        authentication: Authentication {
            acr: owned(packed.acr),
            amr: all(packed.amr),
            auth_time: at(0)?,
        },
        audiences: all(packed.audiences),
        scope: owned(packed.scope),
        claims: packed.claims.map(CustomClaims::parse).transpose().ok()?,
        metadata: pairs(packed.metadata),
        created_at: time(packed.created_at)?,
        renewed_at: at(1)?,
        last_active_at: at(2)?,
        idle_timeout: packed.idle_timeout.map(Duration::microseconds),
        absolute_expires_at: at(3)?,
        sweep_at: at(4)?,
        step_up_at,
        state,
        chain: Chain { generation, key_id, rotated_at: at(5)?, confirmed, min_generation, nonce },
    })
}

fn place(place: PackedLocation<'_>) -> Location {
    let [country_code, region, city] = place.names.map(|name| name.map(str::to_owned));
    let PackedLocation { coordinates, accuracy_km, asn, .. } = place;
    Location { country_code, region, city, coordinates, accuracy_km, asn }
}

fn pairs(entries: Vec<(&str, &str)>) -> BTreeMap<String, String> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn micros(at: Time) -> Micros {
    at.timestamp_micros()
}

fn time(micros: Micros) -> Option<Time> {
    DateTime::from_timestamp_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::tests::session;

    #[test]
    fn a_session_comes_out_as_it_went_in() {
        let mut full = session();
        let text = |text: &str| Some(text.to_owned());
        full.device.details = DeviceDetails {
            name: text("n"),
            platform: text("p"),
            app_version: text("a"),
            os: text("o"),
            browser: text("b"),
            model: text("m"),
        };
        full.ip = Some("2001:db8::1".parse().expect("an address"));
        full.user_agent = text("agent");
        full.location = Some(Location {
            country_code: text("DE"),
            region: text("BE"),
            city: text("Berlin"),
            coordinates: Some((52.5, -13.4)),
            accuracy_km: Some(20),
            asn: Some(64_496),
        });
        full.authentication.acr = text("aal2");
        full.authentication.amr = vec!["pwd".to_owned(), "otp".to_owned()];
        full.metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        full.step_up_at = Some(full.created_at);
        full.scope = text("openid read:orders");
        full.claims = Some(CustomClaims::parse(r#"{"role":"admin"}"#).expect("claims"));
        let end = |by: Option<&str>| End {
            reason: EndReason::Admin,
            at: full.created_at,
            by: by.map(str::to_owned),
            note: by.map(str::to_owned),
        };
        let ended = |by| Session { state: State::Ended(end(by)), ..full.clone() };
        for session in [session(), full.clone(), ended(None), ended(Some("x"))] {
            assert_eq!(unpack(&pack(&session)).as_ref(), Some(&session));
        }
        assert_eq!(unpack(&pack(&full)[1..]), None);
    }
}
