//! Habitual activity of people, random but determined by the seed: the same script always gives the same month, and a
//! further line in the script changes no other person's.

use chrono::{DateTime, Datelike, Duration, Utc, Weekday};

use super::script::{Act, Person, Script, Trip};

/// Something that happens at a time.
#[derive(Clone)]
pub struct Event {
    pub at: DateTime<Utc>,
    pub user: Option<String>,
    pub act: Act,
    pub device: String,
    pub network: String,
    /// A habitual event: a person without a session logs in first, and a missing session is not ended.
    pub habit: bool,
}

/// A random generator, seeded by the text of its purpose.
pub struct Chance(u64);

impl Chance {
    pub fn of(seed: u64, what: &str) -> Chance {
        // FNV-1a, since the hash of the standard library may change.
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Chance(what.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, hash))
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// A random minute between these hours of the day.
    fn between(&mut self, day: DateTime<Utc>, from: f64, to: f64) -> DateTime<Utc> {
        let minutes = ((to - from) * 60.0) as u64;
        let minute = (from * 60.0) as i64 + (self.next() % minutes.max(1)) as i64;
        day + Duration::minutes(minute)
    }
}

/// All habitual events, unsorted.
pub fn all(script: &Script) -> Vec<Event> {
    let mut events = Vec::new();
    for person in &script.people {
        for number in person.from..=script.days {
            let mut day = Day {
                person,
                trips: script.trips.iter().filter(|trip| trip.user == person.name).collect(),
                start: script.start + Duration::days(number - 1),
                // Every device and network is used in the first days, while detection learns.
                first: number < person.from + 4,
                events: Vec::new(),
            };
            for habit in &person.habits {
                let mut chance =
                    Chance::of(script.seed, &format!("{} {number} {habit}", person.name));
                day.live(habit, &mut chance);
            }
            events.append(&mut day.events);
        }
    }
    events
}

struct Day<'a> {
    person: &'a Person,
    trips: Vec<&'a Trip>,
    start: DateTime<Utc>,
    first: bool,
    events: Vec<Event>,
}

impl Day<'_> {
    fn live(&mut self, habit: &str, chance: &mut Chance) {
        let Person { home, office, mobile, vpn, devices, .. } = self.person;
        let (computer, phone) = (&devices[0], &devices[devices.len() - 1]);
        let weekend = matches!(self.start.weekday(), Weekday::Sat | Weekday::Sun);
        let at = |chance: &mut Chance, from, to| chance.between(self.start, from, to);
        let mut plan = Vec::new();
        match habit {
            "office" | "remote" if !weekend => {
                let desk = if habit == "office" { office } else { home };
                plan.push((at(chance, 7.5, 9.5), Act::Login, computer, desk));
                if chance.percent(25) {
                    plan.push((at(chance, 12.0, 14.0), Act::Refresh, computer, desk));
                }
                if chance.percent(15) {
                    plan.push((at(chance, 16.5, 18.5), Act::Logout, computer, desk));
                }
            }
            "phone" if self.first || chance.percent(40) => {
                plan.push((at(chance, 9.6, 15.0), Act::Login, phone, mobile));
                if chance.percent(25) {
                    plan.push((at(chance, 18.0, 22.5), Act::Refresh, phone, home));
                }
            }
            "weekend" if weekend && chance.percent(40) => {
                plan.push((at(chance, 9.0, 14.0), Act::Login, phone, home));
                if chance.percent(25) {
                    plan.push((at(chance, 14.5, 21.0), Act::Refresh, phone, mobile));
                }
            }
            // In the afternoon through the company's VPN, and back.
            "vpn" if !weekend && chance.percent(20) => {
                plan.push((at(chance, 14.0, 15.0), Act::Refresh, computer, vpn));
                let desk = if office.is_empty() { home } else { office };
                plan.push((at(chance, 15.5, 16.4), Act::Refresh, computer, desk));
            }
            // Yesterday's browser tab, until its client refreshes.
            "stale" if chance.percent(10) => {
                plan.push((at(chance, 10.0, 20.0), Act::Stale, phone, mobile));
            }
            _ => {}
        }
        for (at, act, device, network) in plan {
            if act == Act::Login && self.person.habits.iter().any(|habit| habit == "typos") {
                self.mistype(at, device, network, chance);
            }
            self.add(at, act, device, network);
        }
    }

    /// One to four wrong passwords before the right one.
    fn mistype(&mut self, at: DateTime<Utc>, device: &str, network: &str, chance: &mut Chance) {
        if chance.percent(12) {
            let times = 1 + (chance.next() % 4) as i32;
            for nth in 1..=times {
                self.add(at - Duration::seconds(15) * nth, Act::Fail, device, network);
            }
        }
    }

    /// Adds an event at the person's location at that time; none while the person travels.
    fn add(&mut self, at: DateTime<Utc>, act: Act, device: &str, network: &str) {
        let trip = self.trips.iter().find(|trip| trip.leaves <= at && at < trip.back());
        let network = match trip {
            None => network,
            Some(trip) if trip.is_there(at) => trip.to.as_str(),
            Some(_) => return,
        };
        let (user, network) = (Some(self.person.name.clone()), network.to_owned());
        self.events.push(Event { at, user, act, device: device.to_owned(), network, habit: true });
    }
}

impl Trip {
    fn way(&self) -> Duration {
        Duration::minutes((self.hours * 60.0) as i64)
    }

    fn back(&self) -> DateTime<Utc> {
        self.returns + self.way()
    }

    fn is_there(&self, at: DateTime<Utc>) -> bool {
        self.leaves + self.way() <= at && at < self.returns
    }
}
