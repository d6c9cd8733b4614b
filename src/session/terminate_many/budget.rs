//! The time budget of a call that runs in steps.

use std::time::{Duration, Instant};

/// Allows a step while it can be expected to end in time.
pub struct Budget {
    end: Instant,
    step: Instant,
    slowest: Duration,
}

impl Budget {
    /// A budget that starts now.
    pub fn new(time: Duration) -> Budget {
        let now = Instant::now();
        Budget { end: now + time, step: now, slowest: Duration::ZERO }
    }

    /// True if another step fits, if it takes as long as the slowest one between two calls of this.
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
