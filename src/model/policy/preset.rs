//! Timeouts by authentication assurance level, after NIST SP 800-63B-4 (July 2025).
//!
//! | level | overall timeout | inactivity timeout | section |
//! |---|---|---|---|
//! | AAL1 | SHOULD be no more than 30 days | MAY be applied | 2.1.3 |
//! | AAL2 | SHOULD be no more than 24 hours | SHOULD be no more than 1 hour | 2.2.3 |
//! | AAL3 | SHALL be no more than 12 hours | SHOULD be no more than 15 minutes | 2.3.3 |
//!
//! At every level a definite overall timeout SHALL be established, which the absolute timeout is.

use chrono::Duration;

use crate::model::policy::Policy;

numbered! {
    /// An authentication assurance level whose timeouts a level of policy takes.
    Preset { Aal1 = 1, Aal2 = 2, Aal3 = 3 }
}

/// A timeout that is longer than that of its preset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// By proto name.
    pub field: &'static str,
    /// Reads on after the field.
    pub text: String,
    /// SHALL, not SHOULD.
    pub forbidden: bool,
}

impl Preset {
    /// The overall timeout.
    pub fn absolute(self) -> Duration {
        match self {
            Preset::Aal1 => Duration::days(30),
            Preset::Aal2 => Duration::hours(24),
            Preset::Aal3 => Duration::hours(12),
        }
    }

    /// The inactivity timeout; `None` = none.
    pub fn idle(self) -> Option<Duration> {
        match self {
            Preset::Aal1 => None,
            Preset::Aal2 => Some(Duration::hours(1)),
            Preset::Aal3 => Some(Duration::minutes(15)),
        }
    }

    /// The timeouts of `policy` that are longer than this level's.
    pub fn exceeded(self, policy: &Policy) -> Vec<Excess> {
        let mut found = Vec::new();
        if policy.absolute_timeout > self.absolute() {
            let forbidden = self == Preset::Aal3;
            found.push(self.excess("absolute_timeout", self.absolute(), forbidden));
        }
        if let Some(most) = self.idle()
            && policy.idle_timeout.is_none_or(|idle| idle > most)
        {
            found.push(self.excess("idle_timeout", most, false));
        }
        found
    }

    fn excess(self, field: &'static str, most: Duration, forbidden: bool) -> Excess {
        let (name, section) = match self {
            Preset::Aal1 => ("AAL1", "2.1.3"),
            Preset::Aal2 => ("AAL2", "2.2.3"),
            Preset::Aal3 => ("AAL3", "2.3.3"),
        };
        let verb = if forbidden { "must" } else { "should" };
        let text = format!(
            "{verb} be at most {}s at {name} (NIST SP 800-63B-4, section {section})",
            most.num_seconds()
        );
        Excess { field, text, forbidden }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::tests::policy;

    fn exceeded(
        preset: Preset,
        absolute: Duration,
        idle: Option<Duration>,
    ) -> Vec<(&'static str, bool)> {
        let policy = Policy { absolute_timeout: absolute, idle_timeout: idle, ..policy() };
        preset.exceeded(&policy).into_iter().map(|found| (found.field, found.forbidden)).collect()
    }

    #[test]
    fn a_preset_keeps_its_own_rules() {
        for preset in [Preset::Aal1, Preset::Aal2, Preset::Aal3] {
            assert_eq!(exceeded(preset, preset.absolute(), preset.idle()), []);
        }
    }

    #[test]
    fn only_the_overall_timeout_of_the_highest_level_is_a_must() {
        let (second, none) = (Duration::seconds(1), None);
        let (idle, absolute) = ("idle_timeout", "absolute_timeout");
        let longer = |preset: Preset| {
            exceeded(preset, preset.absolute() + second, preset.idle().map(|idle| idle + second))
        };
        assert_eq!(longer(Preset::Aal1), [(absolute, false)]);
        assert_eq!(longer(Preset::Aal2), [(absolute, false), (idle, false)]);
        assert_eq!(longer(Preset::Aal3), [(absolute, true), (idle, false)]);
        assert_eq!(exceeded(Preset::Aal2, second, none), [(idle, false)]);
        assert_eq!(exceeded(Preset::Aal1, second, none), []);
    }
}
