//! Deliberate faults, one at a time, that tests must find (`tests/README.md`, `.ci/run`). Never in a release.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(not(debug_assertions))]
compile_error!("`broken` holds deliberate faults: it is for tests, never for a release");

static FAULT: LazyLock<String> =
    LazyLock::new(|| std::env::var("SESSIOND_BROKEN").unwrap_or_default());

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
