//! Compares the incidents found with the labels of the script.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Duration, Utc};

use super::script::{Kind, Label};

/// An incident that is not suppressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub rule: String,
    /// `None` for a finding about a network.
    pub user: Option<String>,
    pub at: DateTime<Utc>,
}

/// How long after its end a label may be found: the same attack may be seen the next morning.
const ECHO: Duration = Duration::hours(24);

/// The score of one rule.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Tally {
    /// The number of attacks, and how many of them were found.
    pub attacks: u32,
    pub found: u32,
    /// Alerts without an attack: expected by the script, and unexpected.
    pub false_alerts: u32,
    pub unexpected: u32,
    /// Further alerts of the same attack or false alert, within a day.
    pub again: u32,
}

/// The scores of all rules that were compared.
pub struct Score {
    pub rules: BTreeMap<String, Tally>,
    /// The differences from the script.
    pub wrong: Vec<String>,
}

impl Tally {
    /// The share of the incidents that were attacks.
    pub fn precision(&self) -> f64 {
        share(self.found, self.found + self.false_alerts + self.unexpected)
    }

    /// The share of the attacks that were found.
    pub fn recall(&self) -> f64 {
        share(self.found, self.attacks)
    }
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 1.0 } else { f64::from(part) / f64::from(whole) }
}

/// Compares `found` with `labels`, for these rules.
pub fn score(rules: &[&str], labels: &[Label], found: &[Found]) -> Score {
    let mut tallies: BTreeMap<String, Tally> =
        rules.iter().map(|rule| ((*rule).to_owned(), Tally::default())).collect();
    let mut wrong = Vec::new();
    let labels: Vec<&Label> =
        labels.iter().filter(|label| rules.contains(&label.rule.as_str())).collect();
    let mut met = vec![0; labels.len()];
    let mut found: Vec<&Found> = found.iter().collect();
    found.sort_by_key(|found| found.at);
    for found in found {
        let Some(tally) = tallies.get_mut(&found.rule) else { continue };
        let fits = |label: &&Label| {
            // Observations written by the minute may have an earlier time.
            let began = label.from - Duration::minutes(1) <= found.at;
            let ended = label.to + ECHO < found.at;
            label.rule == found.rule && label.user == found.user && began && !ended
        };
        // The latest label that has begun, preferably one that is not matched yet.
        let fitting = || (0..labels.len()).filter(|at| fits(&labels[*at]));
        match fitting().filter(|at| met[*at] == 0).max_by_key(|at| labels[*at].from) {
            Some(at) => met[at] += 1,
            None if fitting().next().is_some() => tally.again += 1,
            None => {
                tally.unexpected += 1;
                wrong.push(format!(
                    "{} of {:?} at {}: not in the script",
                    found.rule, found.user, found.at
                ));
            }
        }
    }
    for (label, met) in labels.iter().zip(met) {
        let tally = tallies.get_mut(&label.rule).expect("filtered above");
        let is_found = met > 0;
        tally.attacks += u32::from(label.kind != Kind::False);
        match label.kind {
            Kind::False => tally.false_alerts += u32::from(is_found),
            Kind::Attack | Kind::Missed => tally.found += u32::from(is_found),
        }
        if is_found != (label.kind != Kind::Missed) {
            let what = if is_found { "found" } else { "not found" };
            let Label { line, rule, user, .. } = label;
            wrong.push(format!("line {line}: {rule} of {user:?} was {what}"));
        }
    }
    Score { rules: tallies, wrong }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>8}{:>7}{:>7}{:>11}{:>7}{:>11}{:>8}",
            "rule", "attacks", "found", "false", "unexpected", "again", "precision", "recall"
        )?;
        for (rule, tally) in &self.rules {
            let Tally { attacks, found, false_alerts, unexpected, again } = tally;
            let (precision, recall) = (tally.precision(), tally.recall());
            writeln!(
                f,
                "{rule:<24}{attacks:>8}{found:>7}{false_alerts:>7}{unexpected:>11}{again:>7}\
                 {precision:>11.2}{recall:>8.2}"
            )?;
        }
        Ok(())
    }
}
