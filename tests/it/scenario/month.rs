//! All events in order, each with its session.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Duration, Utc};

use super::habits::{self, Chance, Event};
use super::script::{Act, Place, Script};

/// The longest life of a session. No script uses one for longer.
pub const LIFE: Duration = Duration::hours(16);

/// An event, with everything that is reported to the server.
pub struct Step {
    pub at: DateTime<Utc>,
    pub user: Option<String>,
    pub act: Act,
    /// The session, by the number of its login.
    pub session: Option<usize>,
    pub device: String,
    pub agent: String,
    pub ip: IpAddr,
    pub place: Option<Place>,
    pub asn: u32,
}

/// The steps of a script, in order.
pub fn steps(script: &Script) -> Result<Vec<Step>, String> {
    let mut events = habits::all(script);
    for scene in &script.scenes {
        let turns = scene.users.iter().flat_map(|user| (0..scene.times).map(move |_| user));
        for (nth, user) in turns.enumerate() {
            events.push(Event {
                at: scene.at + scene.every * i32::try_from(nth).map_err(|_| "too often")?,
                user: user.clone(),
                act: scene.act,
                device: scene.device.clone(),
                network: scene.network.clone(),
                habit: false,
            });
        }
    }
    // A stable sort, so that events at the same time keep the order of the script.
    events.sort_by_key(|event| event.at);
    let mut live = Live::default();
    let mut steps = Vec::new();
    for event in events {
        if let Some((act, session)) = live.step(&event)? {
            steps.push(step(script, event, act, session));
        }
    }
    Ok(steps)
}

/// The live sessions of each user, by device.
#[derive(Default)]
struct Live {
    logins: usize,
    of: BTreeMap<String, Vec<(String, DateTime<Utc>, usize)>>,
}

impl Live {
    /// The action of an event, and its session; `None` if nothing happens.
    fn step(&mut self, event: &Event) -> Result<Option<(Act, Option<usize>)>, String> {
        let Some(user) = event.user.clone() else { return Ok(Some((event.act, None))) };
        let of = self.of.entry(user.clone()).or_default();
        of.retain(|(_, since, _)| event.at < *since + LIFE - Duration::minutes(1));
        // The session on the device; a thief uses the latest one.
        let own = of.iter().rposition(|(device, ..)| *device == event.device);
        let found = own.or(of.len().checked_sub(1).filter(|_| !event.habit));
        let act = match event.act {
            Act::Refresh if event.habit && found.is_none() => Act::Login,
            act => act,
        };
        Ok(Some(match act {
            Act::Login => {
                self.logins += 1;
                of.push((event.device.clone(), event.at, self.logins));
                (act, Some(self.logins))
            }
            Act::Fail | Act::Refused | Act::Forged => (act, None),
            Act::Refresh | Act::Use | Act::Stale | Act::Logout => match found {
                Some(at) if act == Act::Logout => (act, Some(of.remove(at).2)),
                Some(at) => (act, Some(of[at].2)),
                None if event.habit => return Ok(None),
                None => return Err(format!("{user} has no session at {}", event.at)),
            },
        }))
    }
}

fn step(script: &Script, event: Event, act: Act, session: Option<usize>) -> Step {
    let network = &script.networks[&event.network];
    let own = format!("{:?} {}", event.user, event.network);
    let who = Chance::of(script.seed, &own).next();
    let chance = Chance::of(script.seed, &format!("{own} {}", event.at.timestamp())).next();
    let days = (event.at - script.start).num_days();
    // Browsers update on every second Monday.
    let version = (140 + days.div_euclid(14)).to_string();
    Step {
        at: event.at,
        act,
        session,
        agent: script.devices[&event.device].replace("{version}", &version),
        device: event.device,
        ip: network.address(who, chance),
        place: network.place.clone(),
        asn: network.asn,
        user: event.user,
    }
}
