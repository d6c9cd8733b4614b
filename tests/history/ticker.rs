//! The times when the machine did not run this process: measured times may be wrong by as much.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::record::{Epoch, Micros};

const TICK: Duration = Duration::from_millis(5);
/// Shorter gaps are not recorded.
const WORTH_NOTING: Micros = 20_000;

/// A time for which a runnable thread did not run.
#[derive(Debug, Clone, Copy)]
pub struct Gap {
    pub end: Micros,
    pub length: Micros,
}

pub struct Ticker {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Vec<Gap>>,
}

impl Ticker {
    pub fn start(epoch: Epoch) -> Ticker {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut gaps = Vec::new();
            let mut before = epoch.now();
            while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = epoch.now();
                let length = now - before - TICK.as_micros() as Micros;
                if length >= WORTH_NOTING {
                    gaps.push(Gap { end: now, length });
                }
                before = now;
            }
            gaps
        });
        Ticker { stop, thread }
    }

    pub fn stop(self) -> Vec<Gap> {
        drop(self.stop);
        self.thread.join().expect("it only looks at the clock")
    }
}
