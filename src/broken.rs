//! Deliberate faults, one at a time, that tests must find (`tests/README.md`, `.ci/run`). Only debug builds have them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static FAULT: LazyLock<String> = LazyLock::new(|| {
    let fault = std::env::var("SESSIOND_BROKEN").unwrap_or_default();
    if !fault.is_empty() {
        tracing::error!(
            fault,
            "SESSIOND_BROKEN is set: a promise is broken on purpose, for a test"
        );
    }
    fault
});

/// True if this fault was asked for, by the environment variable `SESSIOND_BROKEN`.
pub fn is(fault: &str) -> bool {
    *FAULT == fault
}

/// True for every twelfth call.
pub fn seldom() -> bool {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) % 12 == 11
}

/// True for the first call alone.
pub fn first() -> bool {
    static CALLED: AtomicBool = AtomicBool::new(false);
    !CALLED.swap(true, Ordering::Relaxed)
}
