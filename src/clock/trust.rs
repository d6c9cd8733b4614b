//! Whether a followed time is reliable enough for actions that cannot be undone. Pure.

/// Times contradict each other if they differ by more than this, in microseconds.
const APART: i64 = 5_000_000;
/// A new time is trusted once this many samples agree ...
const SAMPLES: u32 = 5;
/// ... over this time, and with the wall clock of this machine too,
const WITH_MACHINE: i64 = 10_000_000;
/// or without it over this time.
const ALONE: i64 = 300_000_000;

/// The agreement of the samples so far.
#[derive(Default)]
pub(super) struct Trust {
    /// `None` = no sample yet.
    agreed: Option<Agreed>,
    settled: bool,
}

/// Samples that agree with each other.
struct Agreed {
    /// The offset that the samples agree on.
    offset: i64,
    since: i64,
    samples: u32,
}

/// The effect of a sample on the trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Same,
    /// The time is in doubt from this sample.
    Shaken,
    /// The time is no longer in doubt.
    Settled,
}

impl Trust {
    /// False while the time is in doubt.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Takes a sample of the followed clock with an error of at most `doubt`, and the offset of the machine's wall
    /// clock at the same moment, `at`.
    pub fn note(&mut self, at: i64, offset: i64, doubt: i64, machine: i64) -> Turn {
        let agree = |one: i64, other: i64| {
            one.saturating_sub(other).saturating_abs() <= APART.saturating_add(doubt)
        };
        let with_machine = agree(offset, machine);
        let Some(agreed) = &mut self.agreed else {
            self.agreed = Some(Agreed { offset, since: at, samples: 1 });
            self.settled = with_machine;
            return if with_machine { Turn::Same } else { Turn::Shaken };
        };
        if !agree(offset, agreed.offset) {
            *agreed = Agreed { offset, since: at, samples: 1 };
            return if std::mem::take(&mut self.settled) { Turn::Shaken } else { Turn::Same };
        }
        agreed.samples = agreed.samples.saturating_add(1);
        let span = at - agreed.since;
        if self.settled {
            // The offset may drift, but not move away in small steps.
            if span >= WITH_MACHINE {
                *agreed = Agreed { offset, since: at, samples: 1 };
            }
            return Turn::Same;
        }
        let enough = if with_machine { WITH_MACHINE } else { ALONE };
        self.settled = agreed.samples >= SAMPLES && span >= enough;
        if self.settled { Turn::Settled } else { Turn::Same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    /// A sample each second, with these offsets of the followed clock and of the machine's.
    fn feed(
        trust: &mut Trust,
        seconds: std::ops::Range<i64>,
        offset: i64,
        machine: i64,
    ) -> Vec<(i64, Turn)> {
        let turns = seconds.map(|s| (s, trust.note(s * SECOND, offset, 1_000, machine)));
        turns.filter(|(_, turn)| *turn != Turn::Same).collect()
    }

    fn settled() -> Trust {
        let mut trust = Trust::default();
        assert!(!trust.is_settled(), "nothing is known yet");
        assert_eq!(feed(&mut trust, 0..20, 0, 0), []);
        assert!(trust.is_settled(), "the first sample and the machine agree");
        trust
    }

    #[test]
    fn one_sample_that_contradicts_all_others_shakes_it_until_several_agree_again() {
        let mut trust = settled();
        assert_eq!(feed(&mut trust, 20..21, HOUR, 0), [(20, Turn::Shaken)]);
        assert!(!trust.is_settled());
        assert_eq!(feed(&mut trust, 21..40, 0, 0), [(31, Turn::Settled)]);
        assert!(trust.is_settled());
    }

    #[test]
    fn a_new_time_is_relied_on_with_the_machine_soon_and_against_it_late() {
        let mut both = settled();
        assert_eq!(feed(&mut both, 20..40, HOUR, HOUR), [(20, Turn::Shaken), (30, Turn::Settled)]);
        let mut alone = settled();
        let turns = feed(&mut alone, 20..400, -HOUR, 0);
        assert_eq!(turns, [(20, Turn::Shaken), (320, Turn::Settled)]);
        // The machine's clock is set right meanwhile.
        let mut mended = settled();
        feed(&mut mended, 20..60, HOUR, 0);
        assert_eq!(feed(&mut mended, 60..61, HOUR, HOUR), [(60, Turn::Settled)]);
    }

    #[test]
    fn a_machine_that_contradicts_the_first_sample_leaves_it_in_doubt() {
        let mut trust = Trust::default();
        let turns = feed(&mut trust, 0..400, 0, HOUR);
        assert_eq!(turns, [(0, Turn::Shaken), (300, Turn::Settled)]);
        assert_eq!(feed(&mut trust, 400..500, 0, -HOUR), [], "its own clock alone shakes nothing");
    }

    #[test]
    fn few_samples_far_apart_settle_nothing() {
        let mut trust = settled();
        trust.note(20 * SECOND, HOUR, 1_000, HOUR);
        for at in [100, 200, 300] {
            assert_eq!(trust.note(at * SECOND, HOUR, 1_000, HOUR), Turn::Same);
        }
        assert_eq!(trust.note(400 * SECOND, HOUR, 1_000, HOUR), Turn::Settled);
    }

    #[test]
    fn times_that_alternate_never_settle_and_are_reported_once() {
        let mut trust = settled();
        let mut turns = Vec::new();
        for s in 20..1_000 {
            let offset = if s / 7 % 2 == 0 { 0 } else { HOUR };
            turns.extend(feed(&mut trust, s..s + 1, offset, 0));
        }
        assert_eq!(turns, [(21, Turn::Shaken)]);
    }

    #[test]
    fn it_may_drift_slowly_but_not_walk_away() {
        let mut trust = settled();
        let slow = (20..2_000).map(|s| trust.note(s * SECOND, s * 10_000, 1_000, 0));
        assert!(slow.into_iter().all(|turn| turn == Turn::Same));
        let mut trust = settled();
        let mut fast = (20..60).map(|s| trust.note(s * SECOND, (s - 20) * 2 * SECOND, 1_000, 0));
        assert!(fast.any(|turn| turn == Turn::Shaken));
    }

    #[test]
    fn a_slow_answer_contradicts_nothing() {
        let mut trust = settled();
        assert_eq!(trust.note(20 * SECOND, 8 * SECOND, 4 * SECOND, 0), Turn::Same);
        assert_eq!(trust.note(21 * SECOND, i64::MAX, 1_000, i64::MIN), Turn::Shaken);
    }
}
