//! Replays activities under two settings, and counts what each would raise. Pure. One user or
//! network at a time, so memory stays small for any number of them.

use std::collections::BTreeMap;

use crate::clock::Time;
use crate::detection::memory::{NetworkMemory, UserMemory};
use crate::detection::{Context, Finding, observe};
use crate::model::activity::Activity;
use crate::model::alert::Suppression;
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;

/// Incidents of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub raised: u32,
    /// Stored, but not published.
    pub suppressed: u32,
}

/// An incident that one of the settings raises while the other has none of its kind open.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// True: raised by the changed settings. False: raised by the current ones.
    pub added: bool,
    pub finding: Finding,
}

/// Both settings, side by side.
pub struct Replay {
    current: Side,
    changed: Side,
    /// Findings before it are not counted.
    from: Time,
    samples: Vec<Difference>,
    /// The most samples.
    most: usize,
}

/// The subject for which an activity is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplaySubject {
    User,
    Network,
}

struct Side {
    settings: DetectionSettings,
    tallies: BTreeMap<Rule, Tally>,
    user: UserMemory,
    network: NetworkMemory,
    /// The open incidents of the subject, and until when a repetition belongs to each.
    going_on: BTreeMap<(String, Option<Suppression>), Time>,
    /// The raised incidents that count, the first [`COMPARED`].
    raised: Vec<ReplayedIncident>,
}

struct ReplayedIncident {
    finding: Finding,
    until: Time,
}

/// The most incidents of a user or a network that are compared.
const COMPARED: usize = 500;

impl Replay {
    /// Counts findings at `from` and later, and collects at most `most` differences.
    pub fn new(
        current: DetectionSettings,
        changed: DetectionSettings,
        from: Time,
        most: usize,
    ) -> Replay {
        let (current, changed) = (Side::new(current), Side::new(changed));
        Replay { current, changed, from, samples: Vec::new(), most }
    }

    /// Starts another user, first seen at `first_at`, or another network.
    pub fn begin(&mut self, first_at: Option<Time>) {
        self.compare();
        for side in [&mut self.current, &mut self.changed] {
            side.user = UserMemory { first_at, ..UserMemory::default() };
            side.network = NetworkMemory::default();
            side.going_on.clear();
        }
    }

    /// Replays the next activity of the subject.
    pub fn show(&mut self, activity: &Activity, context: &Context, subject: ReplaySubject) {
        for side in [&mut self.current, &mut self.changed] {
            side.find(activity, context, subject, self.from);
        }
    }

    /// Compares the incidents of the subject, once all of its activities are replayed.
    fn compare(&mut self) {
        let current = std::mem::take(&mut self.current.raised);
        let changed = std::mem::take(&mut self.changed.raised);
        let mut found = Vec::new();
        for (added, mine, others) in [(true, &changed, &current), (false, &current, &changed)] {
            let only = mine.iter().filter(|one| !others.iter().any(|other| one.meets(other)));
            found.extend(only.map(|one| Difference { added, finding: one.finding.clone() }));
        }
        found.sort_by_key(|difference| difference.finding.at);
        let room = self.most - self.samples.len();
        self.samples.extend(found.into_iter().take(room));
    }

    /// The findings of each rule, with the current and the changed settings, and the differences.
    pub fn end(mut self) -> (Vec<(Rule, Tally, Tally)>, Vec<Difference>) {
        self.compare();
        let of = |side: &Side, rule| side.tallies.get(&rule).copied().unwrap_or_default();
        let both = |rule: Rule| (rule, of(&self.current, rule), of(&self.changed, rule));
        (Rule::ALL.map(both).into(), self.samples)
    }
}

impl Side {
    fn new(settings: DetectionSettings) -> Side {
        Side {
            settings,
            tallies: BTreeMap::new(),
            user: UserMemory::default(),
            network: NetworkMemory::default(),
            going_on: BTreeMap::new(),
            raised: Vec::new(),
        }
    }

    /// Counts the incidents of the subject that begin at `from` or later.
    fn find(&mut self, activity: &Activity, context: &Context, subject: ReplaySubject, from: Time) {
        // The other kind of subject has no memory here, so it gets an empty one.
        match subject {
            ReplaySubject::User => self.network = NetworkMemory::default(),
            ReplaySubject::Network => self.user = UserMemory::default(),
        }
        let found = observe(activity, context, &self.settings, &mut self.user, &mut self.network);
        for finding in found {
            if finding.user.is_none() == (subject == ReplaySubject::Network) {
                self.note(finding, from);
            }
        }
    }

    fn note(&mut self, finding: Finding, from: Time) {
        let until = finding.at + finding.window;
        let key = (finding.dedup_key.clone(), finding.suppression);
        let goes_on = self.going_on.insert(key, until).is_some_and(|before| finding.at <= before);
        if goes_on {
            let same = |known: &&mut ReplayedIncident| known.finding.dedup_key == finding.dedup_key;
            if let Some(known) = self.raised.iter_mut().rev().find(same)
                && finding.suppression.is_none()
            {
                known.until = until;
            }
            return;
        }
        if finding.at < from {
            return;
        }
        let tally = self.tallies.entry(finding.rule).or_default();
        if finding.suppression.is_some() {
            tally.suppressed += 1;
            return;
        }
        tally.raised += 1;
        if self.raised.len() < COMPARED {
            self.raised.push(ReplayedIncident { finding, until });
        }
    }
}

impl ReplayedIncident {
    /// True if both are incidents of one kind and overlap in time.
    fn meets(&self, other: &ReplayedIncident) -> bool {
        self.finding.dedup_key == other.finding.dedup_key
            && self.finding.at <= other.until
            && other.finding.at <= self.until
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration};
    use uuid::Uuid;

    use super::*;
    use crate::model::activity::ActivityKind;
    use crate::model::ids::{TenantId, UserId};

    fn failed(user: &str, minute: i64) -> Activity {
        let at = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let (tenant, user) = (TenantId::parse("t").expect("a name"), UserId::parse(user).ok());
        let (at, kind) = (at + Duration::minutes(minute), ActivityKind::LoginFailed);
        let ip = "192.0.2.1".parse().ok();
        Activity { ip, ..Activity::new(Uuid::nil(), at, kind, "test", &tenant, user.as_ref()) }
    }

    /// The effect of a change of the count to `count`: failed logins every minute, with a pause of an hour.
    fn replay(
        rule: Rule,
        count: u32,
        subject: ReplaySubject,
        from: i64,
    ) -> (Tally, Tally, Vec<bool>) {
        let mut changed = DetectionSettings::default();
        changed[rule].count = count;
        let from = failed("ada", from).occurred_at;
        let mut replay = Replay::new(DetectionSettings::default(), changed, from, 3);
        replay.begin(None);
        for minute in (0..20).chain(80..90) {
            let user =
                if subject == ReplaySubject::User { "ada" } else { &format!("user-{minute}") };
            replay.show(&failed(user, minute), &Context::default(), subject);
        }
        let (tallies, samples) = replay.end();
        let (_, current, changed) =
            *tallies.iter().find(|(of, ..)| *of == rule).expect("every rule");
        (current, changed, samples.into_iter().map(|sample| sample.added).collect())
    }

    #[test]
    fn an_incident_counts_once_and_what_differs_is_shown() {
        let raised = |raised| Tally { raised, suppressed: 0 };
        let of_user = |count, from| replay(Rule::FailedLogins, count, ReplaySubject::User, from);
        assert_eq!(of_user(10, 0), (raised(2), raised(2), vec![]));
        assert_eq!(of_user(5, 0), (raised(2), raised(2), vec![]), "earlier, but the same");
        assert_eq!(of_user(11, 0), (raised(2), raised(1), vec![false]));
        assert_eq!(of_user(21, 0), (raised(2), raised(0), vec![false, false]));
        assert_eq!(of_user(10, 60).0, raised(1), "the first was before");
    }

    #[test]
    fn a_network_is_looked_at_by_itself() {
        let raised = |raised| Tally { raised, suppressed: 0 };
        let got = replay(Rule::FailedLoginsNetwork, 31, ReplaySubject::Network, 0);
        assert_eq!(got, (raised(1), raised(0), vec![false]));
    }
}
