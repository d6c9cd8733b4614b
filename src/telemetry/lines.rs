//! Lines on their way to standard error, written by a thread of their own: a reader that does not read holds up
//! nobody. What does not fit is dropped and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most that waits to be written.
const MAX_BYTES: usize = 4 << 20;
const MAX_LINES: usize = 16_384;
/// Between two attempts to write where the other end has made writing not to block.
const RETRY: Duration = Duration::from_millis(10);

static STDERR: LazyLock<Shared> = LazyLock::new(|| {
    let begin = || std::thread::Builder::new().name("stderr".to_owned()).spawn(write_all);
    // Without it lines are dropped and counted, as if nobody read them.
    let _ = begin();
    Shared::default()
});

/// Standard error, as the log writes to it: a line at once, whole. Never waits, and never fails.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many lines were dropped.
pub fn dropped() -> u64 {
    STDERR.lock().dropped
}

/// Waits until every line is written, for this long at most.
pub fn flush(within: Duration) {
    let unwritten = |queue: &mut LineQueue| queue.writing || !queue.lines.is_empty();
    let _ = STDERR.changed.wait_timeout_while(STDERR.lock(), within, unwritten);
}

#[derive(Default)]
struct Shared {
    queue: Mutex<LineQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct LineQueue {
    lines: VecDeque<Vec<u8>>,
    /// Those of the lines that wait.
    bytes: usize,
    writing: bool,
    dropped: u64,
    /// How many of those were reported.
    reported: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.bytes + line.len() > MAX_BYTES || queue.lines.len() >= MAX_LINES {
            queue.dropped += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.changed.notify_all();
    }

    /// The next line, once there is one.
    fn pop(&self) -> Vec<u8> {
        let empty = |queue: &mut LineQueue| queue.lines.is_empty();
        let waited = self.changed.wait_while(self.lock(), empty);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let line = queue.lines.pop_front().unwrap_or_default();
        queue.bytes -= line.len();
        queue.writing = true;
        line
    }

    /// Notes whether a line was written. Returns how many were dropped before, where it is time to say so: once they
    /// are written again, and there is room.
    fn done(&self, written: bool) -> u64 {
        let mut queue = self.lock();
        queue.writing = false;
        queue.dropped += u64::from(!written);
        let unreported = queue.dropped - queue.reported;
        let report = written && queue.lines.len() < MAX_LINES / 2;
        if report {
            queue.reported = queue.dropped;
        }
        drop(queue);
        self.changed.notify_all();
        if report { unreported } else { 0 }
    }
}

/// Writes for ever. A line that cannot be written is dropped, also where none ever can be again.
fn write_all() {
    // Not through the handle of the standard library, for whose lock others would wait.
    let Ok(out) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else { return };
    let write_on = || {
        loop {
            let written = write(&out, &STDERR.pop()).is_ok();
            let lines = STDERR.done(written);
            if lines > 0 {
                tracing::warn!(lines, "lines of the log were dropped: nobody read them in time");
            }
        }
    };
    while catch_unwind(AssertUnwindSafe(write_on)).is_err() {}
}

fn write(mut out: &File, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
