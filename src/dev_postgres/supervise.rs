//! Keeps the server up, on a thread of its own.
//!
//! Owns the child process: only its thread starts and reaps it, and only [`Supervisor`] signals
//! it. The thread also is the parent that the kernel watches: on Linux the parent-death signal
//! follows the thread, not the process, so it must live as long as the server does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::home::socket_in;
use super::server::PostgresServer;
use super::stale;
use crate::supervise::words;

/// How long to wait after each signal before the next, harsher one.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(10);

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A server that ran this long died for a new reason, so the pause begins again at the shortest.
const STEADY: Duration = Duration::from_secs(10);

/// Supervises the server. Dropping it stops the server.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the thread, which starts the server; does not wait until the server is ready.
    pub(super) fn start(server: PostgresServer) -> Result<Supervisor> {
        let state = Mutex::new(SupervisorState { goal: Goal::Run, pid: None });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let thread = std::thread::Builder::new().name("postgres".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.keep(&server)
        });
        Ok(Supervisor { shared, thread: Some(thread.context("cannot start a thread")?) })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.shared.lock().pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    pub(super) fn halt(&self) {
        self.shared.stop(Goal::Halt);
    }

    pub(super) fn resume(&self) {
        self.shared.lock().goal = Goal::Run;
        self.shared.changed.notify_all();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stop(Goal::Quit);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread is logged; the server is down either way.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<SupervisorState>,
    changed: Condvar,
}

#[derive(Debug)]
struct SupervisorState {
    goal: Goal,
    /// Set from the start of the child until just before it is reaped, so that a signal sent under the lock cannot hit
    /// another process that got the same id later.
    pid: Option<Pid>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    Run,
    Halt,
    Quit,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, SupervisorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts the loop after a panic. The child ends first: two servers must never run in one cluster.
    fn keep(&self, server: &PostgresServer) {
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.keep_running(server))) {
            tracing::error!(
                error = words(&*panic),
                "what keeps Postgres running failed, and goes on"
            );
            let left = self.lock().pid;
            if let Some(pid) = left {
                let _ = kill_process(pid, Signal::INT);
                let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
            }
            self.lock().pid = None;
            self.changed.notify_all();
            std::thread::sleep(LONGEST_PAUSE);
        }
    }

    fn keep_running(&self, server: &PostgresServer) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            stale::clear(&server.data, &socket_in(&server.socket_dir));
            let halted = |state: &mut SupervisorState| state.goal == Goal::Halt;
            let state = self.changed.wait_while(self.lock(), halted);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.goal == Goal::Quit {
                return;
            }
            let started = Instant::now();
            let spawned = server.command().and_then(|mut command| Ok(command.spawn()?));
            let (state, ended) = match spawned {
                Ok(child) => {
                    state.pid = Some(Pid::from_child(&child));
                    drop(state);
                    self.reap(child)
                }
                Err(error) => (state, Err(error)),
            };
            if started.elapsed() >= STEADY {
                pause = SHORTEST_PAUSE;
            }
            if state.goal == Goal::Run {
                match ended {
                    Ok(status) => tracing::warn!(%status, ?pause, "Postgres died; starting again"),
                    Err(error) => tracing::warn!("cannot run Postgres, trying again: {error:#}"),
                }
            }
            let running = |state: &mut SupervisorState| state.goal == Goal::Run;
            let waited = self.changed.wait_timeout_while(state, pause, running);
            let timed_out = waited.unwrap_or_else(PoisonError::into_inner).1.timed_out();
            pause = if timed_out { LONGEST_PAUSE.min(pause * 2) } else { SHORTEST_PAUSE };
        }
    }

    /// Waits for the child to end. Returns with the state locked since before the child was reaped.
    fn reap(&self, mut child: Child) -> (MutexGuard<'_, SupervisorState>, Result<ExitStatus>) {
        let pid = Pid::from_child(&child);
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let waited = retry_on_intr(|| waitid(WaitId::Pid(pid), ended));
        let mut state = self.lock();
        state.pid = None;
        self.changed.notify_all();
        let ended = waited.map_err(Into::into).and_then(|_| Ok(child.wait()?));
        (state, ended)
    }

    fn stop(&self, goal: Goal) {
        let mut state = self.lock();
        state.goal = goal;
        self.changed.notify_all();
        // Fast shutdown, immediate shutdown, and a signal that even a stopped process obeys.
        for signal in [Signal::INT, Signal::QUIT, Signal::KILL] {
            let Some(pid) = state.pid else { return };
            // Fails only if the process has just ended.
            let _ = kill_process(pid, signal);
            let running = |state: &mut SupervisorState| state.pid.is_some();
            let waited = self.changed.wait_timeout_while(state, STOP_PATIENCE, running);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
