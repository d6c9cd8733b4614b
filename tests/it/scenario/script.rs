//! Reads a scenario, as `tests/scenarios/README.md` describes it.

mod network;
mod words;

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, NaiveDate, Utc};

pub use network::Network;
use words::{Words, clock, length, number, users};

/// The rules that a label may name.
pub const RULES: [&str; 11] = [
    "failed_logins",
    "failed_logins_network",
    "impossible_travel",
    "new_country",
    "rapid_creation",
    "new_device",
    "session_hijack",
    "simultaneous_countries",
    "dormant_account",
    "refused_tokens",
    "limit_conflicts",
];

/// The contents of a script.
#[derive(Default)]
pub struct Script {
    pub start: DateTime<Utc>,
    pub days: i64,
    pub seed: u64,
    pub places: BTreeMap<String, Place>,
    pub networks: BTreeMap<String, Network>,
    /// The user agents of the devices.
    pub devices: BTreeMap<String, String>,
    pub people: Vec<Person>,
    pub trips: Vec<Trip>,
    pub scenes: Vec<Scene>,
    pub labels: Vec<Label>,
}

/// A location.
#[derive(Clone)]
pub struct Place {
    pub country: String,
    pub coordinates: (f64, f64),
}

/// A person with habits.
#[derive(Clone)]
pub struct Person {
    pub name: String,
    pub home: String,
    pub office: String,
    pub mobile: String,
    pub vpn: String,
    pub devices: Vec<String>,
    pub habits: Vec<String>,
    /// The first day of the habits.
    pub from: i64,
}

/// A trip of some days, with no activity on the way.
pub struct Trip {
    pub user: String,
    pub leaves: DateTime<Utc>,
    pub returns: DateTime<Utc>,
    pub hours: f64,
    pub to: String,
}

/// A line of its own: a user's action, once or several times.
pub struct Scene {
    pub at: DateTime<Utc>,
    pub users: Vec<Option<String>>,
    pub act: Act,
    pub device: String,
    pub network: String,
    pub times: i32,
    pub every: Duration,
}

/// An action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Login,
    Fail,
    Refresh,
    Use,
    Stale,
    Forged,
    Refused,
    Logout,
}

/// The expected result of a rule for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An attack that the rule finds.
    Attack,
    /// An attack that the rule does not find.
    Missed,
    /// No attack, but the rule cannot tell.
    False,
}

/// The expected result of one rule.
#[derive(Debug, Clone)]
pub struct Label {
    pub kind: Kind,
    pub rule: String,
    /// `None` for a finding about a network.
    pub user: Option<String>,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub line: usize,
}

/// Parses a file. The error names the line.
pub fn parse(text: &str) -> Result<Script, String> {
    let mut script = Script { days: 30, ..Script::default() };
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let read = match words.split_first() {
            Some((first, rest)) => script.line(first, rest, at + 1),
            None => Ok(()),
        };
        read.map_err(|error| format!("line {}: {error}", at + 1))?;
    }
    Ok(script)
}

impl Script {
    fn line(&mut self, first: &str, rest: &[&str], line: usize) -> Result<(), String> {
        let mut words = Words::new(rest);
        match first {
            "start" => {
                let day: NaiveDate = words.parse("a date")?;
                self.start = day.and_hms_opt(0, 0, 0).expect("midnight").and_utc();
            }
            "days" => self.days = words.parse("a number")?,
            "seed" => self.seed = words.parse("a number")?,
            "place" => {
                let (name, country) = (words.next("a name")?, words.next("a country")?);
                let coordinates = (words.parse("degrees north")?, words.parse("degrees east")?);
                let place = Place { country: country.to_owned(), coordinates };
                self.places.insert(name.to_owned(), place);
            }
            "network" => {
                let (name, network) = Network::read(&mut words, &self.places)?;
                self.networks.insert(name, network);
            }
            "device" => {
                let name = words.next("a name")?.to_owned();
                self.devices.insert(name, words.rest().join(" "));
                return Ok(());
            }
            "people" => self.people(&mut words)?,
            "trip" => self.trip(&mut words, line)?,
            "at" => self.scene(&mut words, line)?,
            other => return Err(format!("`{other}` begins no line")),
        }
        words.done()
    }

    fn people(&mut self, words: &mut Words) -> Result<(), String> {
        let name = words.next("a name")?.to_owned();
        let count: usize = words.parse("a number")?;
        let from = words.option("from").map_or(Ok(1), number)?;
        // The alternatives separated by `|` are used in turn.
        let mut turns = |option: &str| -> Vec<String> {
            words.option(option).unwrap_or_default().split('|').map(str::to_owned).collect()
        };
        let [homes, offices, mobiles, vpns, devices, habits] =
            ["home", "office", "mobile", "vpn", "devices", "habits"].map(&mut turns);
        for at in 0..count {
            let one = |of: &Vec<String>| of[at % of.len()].clone();
            let list = |of: &Vec<String>| -> Vec<String> {
                let words = one(of);
                words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
            };
            let person = Person {
                name: if count == 1 { name.clone() } else { format!("{name}-{}", at + 1) },
                home: one(&homes),
                office: one(&offices),
                mobile: one(&mobiles),
                vpn: one(&vpns),
                devices: list(&devices),
                habits: list(&habits),
                from,
            };
            let networks = [&person.home, &person.office, &person.mobile, &person.vpn];
            for network in networks.into_iter().filter(|network| !network.is_empty()) {
                self.known_network(network)?;
            }
            person.devices.iter().try_for_each(|device| self.known_device(device))?;
            if person.devices.is_empty() {
                return Err("people need devices".to_owned());
            }
            self.people.push(person);
        }
        Ok(())
    }

    fn trip(&mut self, words: &mut Words, line: usize) -> Result<(), String> {
        let user = words.next("who")?.to_owned();
        let leaves = self.time(words)?;
        let to = words.option("to").ok_or("a trip needs to=")?.to_owned();
        self.known_network(&to)?;
        let hours = words.option("hours").map_or(Ok(0.0), number)?;
        let days: i64 = words.option("days").map_or(Ok(1), number)?;
        let returns = leaves + Duration::days(days);
        self.labels(words, &[Some(user.clone())], (leaves, returns), line)?;
        self.trips.push(Trip { user, leaves, returns, hours, to });
        Ok(())
    }

    fn scene(&mut self, words: &mut Words, line: usize) -> Result<(), String> {
        let at = self.time(words)?;
        let users = users(words.next("who")?)?;
        let act = match words.next("an act")? {
            "login" => Act::Login,
            "fail" => Act::Fail,
            "refresh" => Act::Refresh,
            "use" => Act::Use,
            "stale" => Act::Stale,
            "forged" => Act::Forged,
            "refused" => Act::Refused,
            "logout" => Act::Logout,
            other => return Err(format!("nobody can {other}")),
        };
        let device = words.next("a device")?.to_owned();
        let network = words.next("a network")?.to_owned();
        self.known_device(&device)?;
        self.known_network(&network)?;
        let times = words.option("times").map_or(Ok(1), number)?;
        let every = words.option("every").map_or(Ok(Duration::zero()), length)?;
        let count = i32::try_from(users.len()).map_err(|_| "too many")? * times;
        let span = (at, at + every * (count - 1));
        self.labels(words, &users, span, line)?;
        self.scenes.push(Scene { at, users, act, device, network, times, every });
        Ok(())
    }

    fn labels(
        &mut self,
        words: &mut Words,
        users: &[Option<String>],
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        line: usize,
    ) -> Result<(), String> {
        for (word, kind) in
            [("attack", Kind::Attack), ("missed", Kind::Missed), ("false", Kind::False)]
        {
            for rule in words.option(word).into_iter().flat_map(|rules| rules.split(',')) {
                if !RULES.contains(&rule) {
                    return Err(format!("no rule {rule}"));
                }
                let network = rule == "failed_logins_network";
                let users = if network { &[None][..] } else { users };
                self.labels.extend(users.iter().map(|user| Label {
                    kind,
                    rule: rule.to_owned(),
                    user: user.clone(),
                    from,
                    to,
                    line,
                }));
            }
        }
        Ok(())
    }

    fn time(&self, words: &mut Words) -> Result<DateTime<Utc>, String> {
        let day: i64 = words.parse("a day")?;
        // The day before the first is day 0.
        Ok(self.start + Duration::days(day - 1) + clock(words.next("a time such as 09:30")?)?)
    }

    fn known_network(&self, name: &str) -> Result<(), String> {
        self.networks.contains_key(name).then_some(()).ok_or(format!("no network {name}"))
    }

    fn known_device(&self, name: &str) -> Result<(), String> {
        self.devices.contains_key(name).then_some(()).ok_or(format!("no device {name}"))
    }
}
