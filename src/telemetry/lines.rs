//! The queue of log lines for standard error. A thread writes them, so a reader that stalls blocks no call. Lines
//! that do not fit are dropped and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most bytes and lines in the queue.
const MAX_BYTES: usize = 4 << 20;
const MAX_LINES: usize = 16_384;
/// The pause before a retry, if the other end has made standard error non-blocking.
const RETRY: Duration = Duration::from_millis(10);

static STDERR: LazyLock<Shared> = LazyLock::new(|| {
    let begin = || std::thread::Builder::new().name("stderr".to_owned()).spawn(write_all);
    // Without the thread the queue fills, and further lines are dropped and counted.
    let _ = begin();
    Shared::default()
});

/// The log's writer of standard error; each write is one whole line. Never blocks, and never fails.
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

/// The number of dropped lines.
pub fn dropped() -> u64 {
    STDERR.lock().dropped
}

/// Waits until every line is written, for at most `within`.
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
    /// The bytes of the queued lines.
    bytes: usize,
    writing: bool,
    dropped: u64,
    /// How many of the dropped lines were reported.
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

    /// Waits for the next line and removes it from the queue.
    fn pop(&self) -> Vec<u8> {
        let empty = |queue: &mut LineQueue| queue.lines.is_empty();
        let waited = self.changed.wait_while(self.lock(), empty);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let line = queue.lines.pop_front().unwrap_or_default();
        queue.bytes -= line.len();
        queue.writing = true;
        line
    }

    /// Records whether a line was written. Returns how many lines were dropped, if it is time to report them: once a
    /// line was written again, and the queue has room.
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

/// Writes lines forever. Drops a line that cannot be written, even if standard error is closed for good.
fn write_all() {
    // Not through the standard library's handle: its lock would block other writers.
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
