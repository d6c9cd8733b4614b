//! The position of this replica in the revocation feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::model::watermark::Watermark;

/// Written by the reader of the feed, read at every validation. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct RevocationProgress(Arc<Inner>);

struct Inner {
    base: Instant,
    /// Nanoseconds from `base`; 0 = nothing was read yet.
    through: AtomicU64,
    watermark: AtomicU64,
    rewound: Notify,
    /// A request waits for the next poll.
    wanted: Notify,
    advanced: Notify,
}

impl Default for RevocationProgress {
    fn default() -> RevocationProgress {
        // Back by a bit, so that no moment is 0.
        let base = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
        RevocationProgress(Arc::new(Inner {
            base,
            through: AtomicU64::new(0),
            watermark: AtomicU64::new(0),
            rewound: Notify::new(),
            wanted: Notify::new(),
            advanced: Notify::new(),
        }))
    }
}

impl RevocationProgress {
    /// The feed has reported every revocation before this moment, and every one below the watermark. `None` = nothing
    /// was read yet.
    pub fn through(&self) -> (Option<Instant>, Watermark) {
        // The watermark first: it is stored last, so it never covers more than the moment does.
        let watermark = Watermark(self.0.watermark.load(Ordering::Acquire));
        let nanos = self.0.through.load(Ordering::Acquire);
        let through = (nanos > 0).then(|| self.0.base + Duration::from_nanos(nanos));
        (through, watermark)
    }

    /// The feed has reported everything that was committed before `moment`.
    pub(super) fn advance(&self, moment: Instant, watermark: Watermark) {
        let since = moment.saturating_duration_since(self.0.base);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.0.through.store(nanos, Ordering::Release);
        self.0.watermark.store(watermark.0, Ordering::Release);
        self.0.advanced.notify_waiters();
    }

    /// Waits until the feed has reported everything committed before this call. Asks for a poll at once.
    pub(super) async fn catch_up(&self) {
        let asked = Instant::now();
        loop {
            let mut advanced = std::pin::pin!(self.0.advanced.notified());
            advanced.as_mut().enable();
            if self.through().0.is_some_and(|through| through > asked) {
                return;
            }
            self.0.wanted.notify_one();
            advanced.await;
        }
    }

    /// Waits until a request asks for a poll.
    pub(super) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Waits until the database went back in time since the last call.
    pub async fn rewound(&self) {
        self.0.rewound.notified().await;
    }

    /// The database went back in time: nothing that the feed reported counts any more.
    pub(super) fn reset(&self) {
        self.0.watermark.store(0, Ordering::Release);
        self.0.through.store(0, Ordering::Release);
        self.0.rewound.notify_one();
    }
}
