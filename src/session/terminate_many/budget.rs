//! The time that a call has for its steps.

use std::time::{Duration, Instant};

/// Lets steps begin as long as they can be expected to end in time.
pub struct Budget {
    end: Instant,
    step: Instant,
    slowest: Duration,
}

impl Budget {
    /// Time from now on.
    pub fn new(time: Duration) -> Budget {
        let now = Instant::now();
        Budget { end: now + time, step: now, slowest: Duration::ZERO }
    }

    /// True if another step fits: one as slow as the slowest between two calls of this.
    pub fn allows(&mut self) -> bool {
        let now = Instant::now();
        self.slowest = self.slowest.max(now - self.step);
        self.step = now;
        now + self.slowest < self.end
    }
}

#[test]
fn a_step_begins_only_if_it_fits() {
    let mut budget = Budget::new(Duration::from_secs(3600));
    assert!(budget.allows());
    budget.slowest = Duration::from_secs(3600);
    assert!(!budget.allows());
    assert!(!Budget::new(Duration::ZERO).allows());
}
