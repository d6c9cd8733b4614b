//! A clock that follows another one by samples, over a monotonic clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::trust::{Trust, Turn};

/// Samples of which the best is believed, as in the clock filter of NTP (RFC 5905, section 10).
const SAMPLES: usize = 8;
/// What is further off is corrected at once, also backwards; less only forwards, or by standing still.
const STEP: i64 = 1_000_000;
/// By how much a sample is worth less for each microsecond of its age, in parts per million: the frequency tolerance
/// of RFC 5905, section 7.2.
const DRIFT: i64 = 15;

/// Microseconds since the Unix epoch, from a monotonic reading and an offset.
pub(super) struct Followed {
    base: Instant,
    /// Of the epoch's microseconds at `base`.
    offset: AtomicI64,
    /// It does not go back behind this.
    floor: AtomicI64,
    state: Mutex<FollowedState>,
}

/// Of the other clock.
#[derive(Default)]
struct FollowedState {
    samples: VecDeque<ClockSample>,
    trust: Trust,
}

/// What the other clock said between two monotonic readings.
#[derive(Debug, Clone, Copy)]
struct ClockSample {
    /// What the offset would be by it.
    offset: i64,
    /// It is wrong by this at most: half the time that asking took.
    doubt: i64,
    taken: i64,
}

/// What came of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    None,
    /// By so many microseconds.
    Slewed(i64),
    /// By so many microseconds, at once; negative = back.
    Stepped(i64),
}

impl Followed {
    /// A clock that says `micros` now.
    pub fn starting(micros: i64) -> Followed {
        Followed {
            base: Instant::now(),
            offset: AtomicI64::new(micros),
            floor: AtomicI64::new(i64::MIN),
            state: Mutex::default(),
        }
    }

    /// Microseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        self.at(self.since_base(Instant::now()))
    }

    /// The same, unless it is in doubt.
    pub fn settled(&self) -> Option<i64> {
        // No sample moves it between the judgement and the reading.
        let state = self.lock();
        state.trust.is_settled().then(|| self.now())
    }

    /// Takes note of what the other clock said between two moments, while the machine's wall clock was at `wall`.
    pub fn follow(
        &self,
        before: Instant,
        micros: i64,
        after: Instant,
        wall: i64,
    ) -> (Correction, Turn) {
        let (before, after) = (self.since_base(before), self.since_base(after));
        let middle = before + (after - before) / 2;
        // Rounded up, and what is lost by counting in microseconds.
        let doubt = (after - before) / 2 + 1;
        let offset = micros - middle;
        let mut state = self.lock();
        let turn = state.trust.note(after, offset, doubt, wall.saturating_sub(after));
        (self.correct(&mut state.samples, ClockSample { offset, doubt, taken: after }), turn)
    }

    fn correct(&self, samples: &mut VecDeque<ClockSample>, new: ClockSample) -> Correction {
        let ClockSample { offset, doubt, taken: after } = new;
        let first = samples.is_empty();
        let worth =
            |sample: &&ClockSample| sample.doubt + (after - sample.taken) * DRIFT / 1_000_000;
        // Those that cannot be right together with this one are from before a clock was set, or this machine slept.
        samples.retain(|sample| (sample.offset - offset).abs() <= worth(&sample) + doubt);
        samples.push_front(new);
        samples.truncate(SAMPLES);
        let Some(best) = samples.iter().min_by_key(worth).copied() else { return Correction::None };
        let off = best.offset - self.offset.load(Ordering::Acquire);
        if !first && off.abs() <= worth(&&best) {
            return Correction::None;
        }
        let stepped = first || off.abs() > STEP;
        // No answer is earlier than one before it, unless that was wrong by far.
        let floor = if stepped { i64::MIN } else { self.at(after) };
        self.floor.store(floor, Ordering::Release);
        self.offset.store(best.offset, Ordering::Release);
        if stepped {
            // Those from before a step say nothing.
            samples.truncate(1);
            return Correction::Stepped(off);
        }
        Correction::Slewed(off)
    }

    fn at(&self, since_base: i64) -> i64 {
        (self.offset.load(Ordering::Acquire) + since_base).max(self.floor.load(Ordering::Acquire))
    }

    fn since_base(&self, moment: Instant) -> i64 {
        micros(moment.saturating_duration_since(self.base))
    }

    fn lock(&self) -> MutexGuard<'_, FollowedState> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Asks at `at` milliseconds a clock that shows `shown`; asking takes so many milliseconds.
    fn ask(clock: &Followed, at: u64, shown: i64, takes: u64) -> Correction {
        let before = clock.base + Duration::from_millis(at);
        clock.follow(before, shown, before + Duration::from_millis(takes), shown).0
    }

    #[test]
    fn the_first_sample_is_believed_and_a_clock_that_is_far_off_steps() {
        let clock = Followed::starting(HOUR);
        assert_eq!(ask(&clock, 0, 1_000, 2), Correction::Stepped(-HOUR));
        assert_eq!(clock.at(5_000), 5_000);
        assert_eq!(ask(&clock, 1_000, HOUR, 2), Correction::Stepped(HOUR - 1_001_000));
        assert_eq!(clock.at(1_001_000), HOUR);
    }

    #[test]
    fn a_small_correction_never_turns_time_back() {
        let clock = Followed::starting(0);
        ask(&clock, 0, 1_000, 2);
        let told = clock.at(1_002_000);
        assert_eq!(ask(&clock, 1_000, 901_000, 2), Correction::Slewed(-100_000));
        assert_eq!(clock.at(1_002_000), told, "it stands still");
        assert_eq!(clock.at(1_202_000), told + 100_000, "until it is right");
        assert_eq!(ask(&clock, 2_000, 2_001_000, 2), Correction::Slewed(100_000));
    }

    #[test]
    fn a_sample_that_took_long_does_not_outweigh_a_better_one() {
        let clock = Followed::starting(0);
        ask(&clock, 0, 1_000, 2);
        assert_eq!(ask(&clock, 1_000, 1_400_000, 800), Correction::None);
        assert_eq!(clock.at(2_000_000), 2_000_000);
        // Less than the doubt is no news.
        assert_eq!(ask(&clock, 2_000, 2_001_900, 2), Correction::None);
    }

    #[test]
    fn a_jump_is_followed_at_once_however_fast_the_answers_before_it_were() {
        let clock = Followed::starting(0);
        for at in [0, 200, 400] {
            ask(&clock, at, i64::try_from(at).unwrap() * 1_000 + 500, 1);
        }
        assert_eq!(ask(&clock, 600, HOUR + 601_000, 2), Correction::Stepped(HOUR));
    }
}
