//! A clock that follows another one by samples, and runs on the monotonic clock in between.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::trust::{Trust, Turn};

/// The number of samples of which the best is used, as in the clock filter of NTP (RFC 5905, section 10).
const SAMPLES: usize = 8;
/// A greater offset is corrected at once, also backwards; a smaller one only forwards, or by standing still.
const STEP: i64 = 1_000_000;
/// How much the error of a sample grows with its age, in parts per million: the frequency tolerance of RFC 5905,
/// section 7.2.
const DRIFT: i64 = 15;

/// Microseconds since the Unix epoch, from a monotonic reading and an offset.
pub(super) struct Followed {
    base: Instant,
    /// Microseconds since the Unix epoch at `base`.
    offset: AtomicI64,
    /// The clock does not read less than this.
    floor: AtomicI64,
    state: Mutex<FollowedState>,
}

/// What is known of the followed clock.
#[derive(Default)]
struct FollowedState {
    samples: VecDeque<ClockSample>,
    trust: Trust,
}

/// A reading of the followed clock between two monotonic readings.
#[derive(Debug, Clone, Copy)]
struct ClockSample {
    /// The offset according to this sample.
    offset: i64,
    /// The greatest error of the offset: half the round trip.
    doubt: i64,
    taken: i64,
}

/// The effect of a sample on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    None,
    /// By so many microseconds, without going back.
    Slewed(i64),
    /// By so many microseconds, at once; negative = back.
    Stepped(i64),
}

impl Followed {
    /// A clock that reads `micros` now.
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

    /// The same; `None` while the time is in doubt.
    pub fn settled(&self) -> Option<i64> {
        // Under the lock, so that no sample changes the clock between the check and the reading.
        let state = self.lock();
        state.trust.is_settled().then(|| self.now())
    }

    /// Takes a sample: `micros` between the two moments, while the machine's wall clock read `wall`.
    pub fn follow(
        &self,
        before: Instant,
        micros: i64,
        after: Instant,
        wall: i64,
    ) -> (Correction, Turn) {
        let (before, after) = (self.since_base(before), self.since_base(after));
        let middle = before + (after - before) / 2;
        // The one is for rounding to microseconds.
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
        // Older samples that contradict the new one are from before a clock was set, or before this machine slept.
        samples.retain(|sample| (sample.offset - offset).abs() <= worth(&sample) + doubt);
        samples.push_front(new);
        samples.truncate(SAMPLES);
        let Some(best) = samples.iter().min_by_key(worth).copied() else { return Correction::None };
        let off = best.offset - self.offset.load(Ordering::Acquire);
        if !first && off.abs() <= worth(&&best) {
            return Correction::None;
        }
        let stepped = first || off.abs() > STEP;
        // The clock never goes back, except by a step.
        let floor = if stepped { i64::MIN } else { self.at(after) };
        self.floor.store(floor, Ordering::Release);
        self.offset.store(best.offset, Ordering::Release);
        if stepped {
            // The samples from before a step no longer apply.
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

    /// Takes a sample of a clock that reads `shown`, from `at`, in milliseconds, with a round trip of `takes`.
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
        // A difference below the error of the sample changes nothing.
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
