//! Runs the steps of a scenario against the rules alone: makes the activities that the service would write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sessiond::detection::memory::{NetworkMemory, UserMemory};
use sessiond::detection::{Context, Finding, observe};
use sessiond::model::activity::{Activity, ActivityKind, ActivityReport, SYSTEM};
use sessiond::model::detection::DetectionSettings;
use sessiond::model::device::Location;
use sessiond::model::ids::{TenantId, UserId};
use sessiond::model::session::EndReason;
use sessiond::session::device::derive;
use uuid::Uuid;

use super::habits::Chance;
use super::month::Step;
use super::score::Found;
use super::script::{Act, Script};

/// The memory of the rules, and the sessions.
pub struct World {
    settings: DetectionSettings,
    users: BTreeMap<String, UserMemory>,
    networks: BTreeMap<IpNet, NetworkMemory>,
    sessions: BTreeMap<usize, Client>,
    seen: BTreeSet<(usize, IpNet, String)>,
    /// Browser and system by user agent: parsing is most of the work, so each is parsed once.
    families: BTreeMap<String, (Option<String>, Option<String>)>,
    incidents: BTreeMap<(Option<String>, String), DateTime<Utc>>,
    found: Vec<Found>,
    activities: u128,
}

/// The client of a session.
#[derive(Clone, PartialEq)]
struct Client {
    ip: IpAddr,
    agent: String,
    device: Uuid,
}

/// The default settings, with the trusted networks of a script.
pub fn settings(script: &Script) -> DetectionSettings {
    let trusted = script.networks.values().filter(|network| network.trusted);
    let trusted_networks = trusted.map(|network| network.net).collect();
    let mut settings = DetectionSettings::default();
    settings.trusted_networks = trusted_networks;
    settings
}

/// The incidents that the rules find.
pub fn replay(script: &Script, steps: &[Step]) -> Vec<Found> {
    let mut world = World {
        settings: settings(script),
        users: BTreeMap::new(),
        networks: BTreeMap::new(),
        sessions: BTreeMap::new(),
        seen: BTreeSet::new(),
        families: BTreeMap::new(),
        incidents: BTreeMap::new(),
        found: Vec::new(),
        activities: 0,
    };
    for step in steps {
        if let Some(activity) = world.activity(step) {
            world.show(&activity);
        }
    }
    world.found
}

impl World {
    /// The only code that calls the rules.
    fn show(&mut self, activity: &Activity) {
        let user = activity.user.as_ref().map(UserId::to_string);
        let (mut nobody, mut nowhere) = Default::default();
        let of_user = match &user {
            Some(user) => self.users.entry(user.clone()).or_default(),
            None => &mut nobody,
        };
        let of_network = match activity.ip {
            Some(ip) => self.networks.entry(network(ip, 32, 64)).or_default(),
            None => &mut nowhere,
        };
        let user_agent = activity.user_agent.as_deref().filter(|_| activity.session.is_some());
        let (browser, system) = user_agent.map_or((None, None), |agent| {
            let read = || {
                let of = derive(agent);
                (of.browser_family, of.os_family)
            };
            self.families.entry(agent.to_owned()).or_insert_with(read).clone()
        });
        let context = Context { device_is_trusted: false, browser, system };
        for finding in observe(activity, &context, &self.settings, of_user, of_network) {
            self.count(finding);
        }
    }

    /// Counts one incident unless it is suppressed.
    fn count(&mut self, finding: Finding) {
        if finding.suppression.is_some() {
            return;
        }
        let user = finding.user.map(|user| user.to_string());
        let key = (user.clone(), finding.dedup_key);
        let goes_on = self.incidents.get(&key).is_some_and(|until| finding.at <= *until);
        self.incidents.insert(key, finding.at + finding.window);
        if !goes_on {
            self.found.push(Found { rule: finding.rule.id().to_owned(), user, at: finding.at });
        }
    }

    /// The activity that the service writes; `None` if none.
    fn activity(&mut self, step: &Step) -> Option<Activity> {
        let kind = match step.act {
            Act::Login => ActivityKind::Created,
            Act::Fail => ActivityKind::LoginFailed,
            Act::Refresh => ActivityKind::Refreshed,
            Act::Use if self.is_other(step) => ActivityKind::ContextChanged,
            Act::Use => return None,
            Act::Stale | Act::Forged => ActivityKind::TokenRefused,
            Act::Refused => ActivityKind::LimitConflict,
            Act::Logout => ActivityKind::Terminated,
        };
        let device = id(&format!("device {:?} {}", step.user, step.device));
        if let (Act::Login | Act::Refresh, Some(session)) = (step.act, step.session) {
            let device = self.sessions.get(&session).map_or(device, |client| client.device);
            let client = Client { ip: step.ip, agent: step.agent.clone(), device };
            self.sessions.insert(session, client);
        }
        let own = step.session.and_then(|session| self.sessions.get(&session));
        let about = matches!(step.act, Act::Login | Act::Refused).then_some(device);
        let refused = matches!(step.act, Act::Fail | Act::Stale | Act::Forged | Act::Refused);
        self.activities += 1;
        let tenant = TenantId::parse("").expect("the default");
        let user = step.user.as_ref().map(|user| UserId::parse(user).expect("a user"));
        let number = Uuid::from_u128(self.activities);
        let end = (step.act == Act::Logout).then_some(EndReason::Logout);
        Some(Activity {
            session: step.session.map(|session| id(&format!("session {session}"))),
            device: own.map(|client| client.device).or(about),
            end_reason: end,
            ip: Some(step.ip),
            user_agent: Some(step.agent.clone()),
            location: step.place.as_ref().map(|place| Location {
                country_code: Some(place.country.clone()),
                coordinates: Some(place.coordinates),
                asn: Some(step.asn).filter(|asn| *asn != 0),
                ..Location::default()
            }),
            report: refused.then(ActivityReport::default),
            ..Activity::new(number, step.at, kind, SYSTEM, &tenant, user.as_ref())
        })
    }

    /// Whether the client context of a session has changed.
    fn is_other(&mut self, step: &Step) -> bool {
        let Some(session) = step.session else { return false };
        let Some(client) = self.sessions.get(&session) else { return false };
        let site = |ip| network(ip, 24, 48);
        let same = site(client.ip) == site(step.ip) && client.agent == step.agent;
        !same && self.seen.insert((session, site(step.ip), step.agent.clone()))
    }
}

fn network(ip: IpAddr, v4: u8, v6: u8) -> IpNet {
    IpNet::new(ip, if ip.is_ipv4() { v4 } else { v6 }).expect("a length that fits").trunc()
}

fn id(of: &str) -> Uuid {
    Uuid::from_u64_pair(Chance::of(1, of).next(), Chance::of(2, of).next())
}
